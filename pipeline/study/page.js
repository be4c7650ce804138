const find = (id) => document.getElementById(id);
const videos = [find("left"), find("right")];
const last = `study-${data.study}`; // of this browser: the number whose answers came last
const tab = Math.random().toString(36).slice(2); // of two tabs of one person the later one writes
const APART = 0.05; // seconds that the videos may be apart when they go on
let session = null; // participant, code, started, ended, saved, place, answers by pair
let writes = false; // whether this tab has written the session
let pause = null;
let since = 0;

// The checksum guards against mishaps on the way: pipeline/study/answers.py computes the same.
function crc32(text) {
  let crc = ~0;
  for (const byte of new TextEncoder().encode(text)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return (~crc >>> 0).toString(16).padStart(8, "0");
}

function ownPairs() {
  return data.lists[session.participant - 1].map((position) => data.pairs[position]);
}

function answersFile() {
  const answers = ownPairs().filter((pair) => complete(pair)).map((pair) => {
    const given = session.answers[pair.pair];
    const choices = Object.fromEntries(data.questions.map((name) => [name, given[name]]));
    return { pair: pair.pair, ...choices, milliseconds: given.milliseconds };
  });
  const file = { format: 1, study: data.study, participant: session.participant, code: session.code,
    started: session.started, ended: session.ended, answers };
  const rows = answers.map((each) => [each.pair, ...data.questions.map((name) => each[name]), each.milliseconds]);
  file.checksum = crc32(JSON.stringify([file.study, file.participant, file.code, file.started, file.ended, rows]));
  return file;
}

function place(participant) {
  return `${last}-${participant}`;
}

function kept(participant) {
  try { return JSON.parse(localStorage.getItem(place(participant))); } catch { return null; }
}

function lastNumber() {
  try { return Number(localStorage.getItem(last)); } catch { return 0; }
}

// False where another tab has taken over, which this one must not overwrite.
function keep() {
  const there = kept(session.participant);
  if (writes && there && there.tab !== tab) return stop("These questions go on in another tab or window.");
  writes = true;
  try {
    localStorage.setItem(place(session.participant), JSON.stringify({ ...session, tab }));
    localStorage.setItem(last, session.participant);
  } catch { complain("This browser keeps nothing: please finish without closing the page."); }
  return true;
}

function stop(why) {
  session = null;
  find("why").textContent = why;
  view("stopped");
  return false;
}

function complain(text) {
  find("problem").textContent = text;
  find("problem").hidden = !text;
}

function view(name) {
  for (const main of document.querySelectorAll("main")) main.hidden = main.id !== name;
  complain("");
  if (name === "task") return;
  clearTimeout(pause);
  pause = null;
  for (const video of videos) video.pause();
  document.querySelector(`#${name} [tabindex]`)?.focus();
}

function complete(pair) {
  const given = session.answers[pair.pair];
  return Boolean(given) && data.questions.every((name) => given[name]);
}

// Both start again from the first frame. Without play() some browsers load no video at all.
function playTogether() {
  clearTimeout(pause);
  pause = null;
  for (const video of videos) if (video.currentTime > 0) video.currentTime = 0;
  for (const video of videos) video.play().catch(() => {});
}

// Whichever stalls is waited for; both go on from the earlier one's place.
function align() {
  if (find("task").hidden || pause !== null) return;
  const going = videos.filter((video) => !video.ended);
  const ready = going.filter((video) => !video.seeking && video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA);
  const times = going.map((video) => video.currentTime);
  if (ready.length < going.length) {
    for (const video of going) if (!ready.includes(video)) video.play().catch(() => {});
    for (const video of ready) video.pause();
  } else if (Math.max(...times) - Math.min(...times) > APART) {
    for (const video of going) video.pause();
    going[times.indexOf(Math.max(...times))].currentTime = Math.min(...times); // "seeked" calls this again
  } else for (const video of going) video.play().catch(() => {});
}

function spend() {
  const pair = ownPairs()[session.place];
  const given = (session.answers[pair.pair] ??= { milliseconds: 0 });
  given.milliseconds += Math.round(performance.now() - since);
  since = performance.now();
}

function show(number) {
  const pairs = ownPairs();
  session.place = Math.min(Math.max(number, 0), pairs.length - 1);
  const pair = pairs[session.place];
  since = performance.now();
  view("task");
  history.replaceState(null, "", `#${session.participant}`); // so that loading the page again means this person
  find("condition").src = pair.condition;
  find("prompt").textContent = pair.prompt || "(no text)";
  find("place").textContent = `Pair ${session.place + 1} of ${pairs.length}`;
  find("progress").max = pairs.length;
  find("progress").value = pairs.filter(complete).length;
  introduce();
  videos[0].src = pair.left;
  videos[1].src = pair.right;
  for (const video of videos) video.load();
  playTogether();
  const given = session.answers[pair.pair] ?? {};
  for (const input of document.querySelectorAll("#questions input")) {
    input.checked = given[input.name] === input.value;
  }
  refresh();
  scrollTo(0, 0);
  find("place").focus({ preventScroll: true });
  keep();
}

function current() {
  const given = session.answers[ownPairs()[session.place].pair] ?? {};
  return data.questions.findIndex((name) => !given[name]);
}

function refresh() {
  const open = current();
  document.querySelectorAll("#questions fieldset").forEach((set, index) => {
    set.classList.toggle("current", index === open);
  });
  find("back").disabled = session.place === 0;
  find("next").disabled = open !== -1;
  find("next").textContent = session.place + 1 === ownPairs().length ? "Finish" : "Next pair";
}

function answer(name, value) {
  spend();
  session.answers[ownPairs()[session.place].pair][name] = value;
  session.saved = false;
  if (session.ended) session.ended = new Date().toISOString(); // of two files the one that ended earlier counts
  refresh();
  keep();
}

function next() {
  if (find("next").disabled) return;
  spend();
  if (session.place + 1 < ownPairs().length) return show(session.place + 1);
  const missing = ownPairs().findIndex((pair) => !complete(pair));
  if (missing !== -1) return show(missing);
  session.ended ??= new Date().toISOString();
  if (keep()) finished();
}

function introduce() {
  const who = `number ${session.participant}, ${session.code}`;
  for (const place of document.querySelectorAll(".who")) place.textContent = who;
}

function finished() {
  introduce();
  find("delete").hidden = !session.saved;
  view("done");
}

function save() {
  const file = answersFile();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${JSON.stringify(file, null, 1)}\n`], { type: "application/json" }));
  link.download = `answers-${data.study}-${String(session.participant).padStart(3, "0")}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  session.saved = true;
  keep();
}

function forget() {
  if (!confirm("Delete your answers from this browser? Only the file that you saved keeps them.")) return;
  try {
    localStorage.removeItem(place(session.participant));
    localStorage.removeItem(last);
  } catch { /* then nothing was kept */ }
  session = null;
  view("gone");
}

// The answers given so far stay in the browser, and come back with their number and code.
function leave() {
  try { localStorage.removeItem(last); } catch { /* then nothing was kept */ }
  if (location.hash.length > 1) location.hash = ""; // which loads the page again
  else location.reload();
}

function begin() {
  const participant = Number(find("participant").value.trim());
  const code = find("code").value.trim();
  if (!Number.isInteger(participant) || participant < 1 || participant > data.lists.length) {
    return complain(`Your number is a whole number from 1 to ${data.lists.length}; it is in the invitation.`);
  }
  if (!code) return complain("Please choose a code: any word that does not tell who you are.");
  if (!find("consent").checked) return complain("Please tick that you take part, or close this page.");
  const before = kept(participant);
  if (before && before.code !== code) {
    const lost = `Number ${participant} has answers here, under another code. Delete them, and begin anew?`;
    if (!confirm(lost)) return complain("Please check your number; to go on where you left, enter your code again.");
  }
  if (before && before.code === code) session = before;
  else {
    const started = new Date().toISOString();
    session = { participant, code, started, ended: null, saved: false, place: 0, answers: {} };
  }
  show(session.place);
}

for (const video of videos) {
  for (const event of ["waiting", "canplay", "playing", "seeked"]) video.addEventListener(event, align);
  video.addEventListener("ended", () => {
    if (!videos.every((each) => each.ended)) align();
    else if (pause === null) pause = setTimeout(playTogether, 500);
  });
  video.addEventListener("error", () => {
    complain(`${video.getAttribute("src")} cannot be played; is the folder "media" beside this page?`);
  });
}
find("begin").addEventListener("click", begin);
find("restart").addEventListener("click", playTogether);
find("back").addEventListener("click", () => { spend(); show(session.place - 1); });
find("next").addEventListener("click", next);
find("early").addEventListener("click", () => { spend(); save(); });
find("save").addEventListener("click", () => { save(); find("delete").hidden = false; });
find("delete").addEventListener("click", forget);
find("return").addEventListener("click", () => show(session.place));
find("here").addEventListener("click", () => location.reload());
for (const other of document.querySelectorAll(".other")) other.addEventListener("click", leave);
find("questions").addEventListener("change", (event) => answer(event.target.name, event.target.value));
// After a mouse's click (not the keyboard's, whose detail is 0) Enter means the next pair, not the button again.
document.addEventListener("click", (event) => { if (event.detail > 0) event.target.closest("button")?.blur(); });
document.addEventListener("keydown", (event) => {
  if (find("task").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const choice = { 1: "left", 2: "same", 3: "right" }[event.key];
  const button = event.target.tagName === "BUTTON";
  const enter = event.key === "Enter" && (!button || event.repeat); // else the button has it
  if (!choice && !enter && !["Backspace", "r", "R"].includes(event.key)) return;
  event.preventDefault();
  if (event.repeat) return; // a key held down is pressed once
  const open = current();
  if (choice && open !== -1) {
    document.querySelector(`#questions fieldset:nth-of-type(${open + 1}) input[value=${choice}]`).checked = true;
    answer(data.questions[open], choice);
  } else if (event.key === "Enter") next();
  else if (event.key === "Backspace" && session.place > 0) { spend(); show(session.place - 1); }
  else if (event.key === "r" || event.key === "R") playTogether();
});
addEventListener("hashchange", () => location.reload()); // another person's link in this tab
addEventListener("storage", (event) => {
  if (!session || (event.key !== null && event.key !== place(session.participant))) return;
  if (!kept(session.participant)) stop("The answers were deleted from this browser.");
  else if (kept(session.participant).tab !== tab) stop("These questions go on in another tab or window.");
});

const asked = Number.parseInt(location.hash.slice(1), 10);
const before = kept(asked || lastNumber());
if (before) {
  session = before;
  find("participant").value = before.participant;
  find("code").value = before.code;
  if (!before.ended) show(before.place);
  else if (keep()) finished();
} else if (asked) find("participant").value = asked;
