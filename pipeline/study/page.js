const find = (id) => document.getElementById(id);
const videos = [find("left"), find("right")];
const store = `study-${data.study}`;
let session = null; // participant, code, started, ended, place, answers by pair
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

function keep() {
  try { localStorage.setItem(store, JSON.stringify(session)); } catch { complain("This browser keeps nothing: please finish without closing the page."); }
}

function kept() {
  try { return JSON.parse(localStorage.getItem(store)); } catch { return null; }
}

function complain(text) {
  find("problem").textContent = text;
  find("problem").hidden = !text;
}

function view(name) {
  for (const id of ["welcome", "task", "done"]) find(id).hidden = id !== name;
  if (name !== "task") for (const video of videos) video.pause();
}

function complete(pair) {
  const given = session.answers[pair.pair];
  return Boolean(given) && data.questions.every((name) => given[name]);
}

// Both start together once both can play through, and start again together when both have ended.
function playTogether() {
  clearTimeout(pause);
  pause = null;
  if (videos.some((video) => video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA)) return;
  for (const video of videos) video.currentTime = 0;
  for (const video of videos) video.play().catch(() => {});
}

function spend() {
  const pair = ownPairs()[session.place];
  const given = (session.answers[pair.pair] ??= { milliseconds: 0 });
  given.milliseconds += Math.round(performance.now() - since);
  since = performance.now();
}

function show(place) {
  const pairs = ownPairs();
  session.place = Math.min(Math.max(place, 0), pairs.length - 1);
  const pair = pairs[session.place];
  since = performance.now();
  clearTimeout(pause);
  pause = null;
  complain("");
  view("task");
  find("condition").src = pair.condition;
  find("prompt").textContent = pair.prompt || "(no text)";
  find("place").textContent = `Pair ${session.place + 1} of ${pairs.length}`;
  find("progress").max = pairs.length;
  find("progress").value = pairs.filter(complete).length;
  videos[0].src = pair.left;
  videos[1].src = pair.right;
  for (const video of videos) video.load();
  const given = session.answers[pair.pair] ?? {};
  for (const input of document.querySelectorAll("#questions input")) input.checked = given[input.name] === input.value;
  refresh();
  keep();
  scrollTo(0, 0);
}

function current() {
  const given = session.answers[ownPairs()[session.place].pair] ?? {};
  return data.questions.findIndex((name) => !given[name]);
}

function refresh() {
  const open = current();
  document.querySelectorAll("#questions fieldset").forEach((set, index) => set.classList.toggle("current", index === open));
  find("back").disabled = session.place === 0;
  find("next").disabled = open !== -1;
  find("next").textContent = session.place + 1 === ownPairs().length ? "Finish" : "Next pair";
}

function answer(name, value) {
  spend();
  session.answers[ownPairs()[session.place].pair][name] = value;
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
  keep();
  view("done");
}

function save() {
  const file = answersFile();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${JSON.stringify(file, null, 1)}\n`], { type: "application/json" }));
  link.download = `answers-${data.study}-${String(session.participant).padStart(3, "0")}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function begin() {
  const participant = Number(find("participant").value.trim());
  const code = find("code").value.trim();
  if (!Number.isInteger(participant) || participant < 1 || participant > data.lists.length) {
    return complain(`Your number is a whole number from 1 to ${data.lists.length}; it is in the invitation.`);
  }
  if (!code) return complain("Please choose a code: any word that does not tell who you are.");
  if (!find("consent").checked) return complain("Please tick that you take part, or close this page.");
  const before = kept();
  if (before && before.participant === participant && before.code === code) session = before;
  else session = { participant, code, started: new Date().toISOString(), ended: null, place: 0, answers: {} };
  show(session.place);
}

for (const video of videos) {
  video.addEventListener("canplaythrough", () => { if (videos.every((each) => each.paused && !each.ended)) playTogether(); });
  video.addEventListener("ended", () => {
    if (videos.every((each) => each.ended) && pause === null) pause = setTimeout(playTogether, 500);
  });
  video.addEventListener("error", () => complain(`${video.getAttribute("src")} cannot be played; is the folder "media" beside this page?`));
}
find("begin").addEventListener("click", begin);
find("restart").addEventListener("click", playTogether);
find("back").addEventListener("click", () => { spend(); show(session.place - 1); });
find("next").addEventListener("click", next);
find("early").addEventListener("click", () => { spend(); save(); });
find("save").addEventListener("click", save);
find("return").addEventListener("click", () => show(session.place));
find("questions").addEventListener("change", (event) => answer(event.target.name, event.target.value));
document.addEventListener("keydown", (event) => {
  if (find("task").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const choice = { 1: "left", 2: "same", 3: "right" }[event.key];
  const open = current();
  if (choice && open !== -1) {
    document.querySelector(`#questions fieldset:nth-of-type(${open + 1}) input[value=${choice}]`).checked = true;
    answer(data.questions[open], choice);
  } else if (event.key === "Enter" && event.target.tagName !== "BUTTON") next();
  else if (event.key === "Backspace" && session.place > 0) { spend(); show(session.place - 1); }
  else if (event.key === "r" || event.key === "R") playTogether();
  else return;
  event.preventDefault();
});

const asked = Number.parseInt(location.hash.slice(1), 10);
const before = kept();
if (before) {
  session = before;
  find("participant").value = before.participant;
  find("code").value = before.code;
  if (before.ended) view("done");
  else show(before.place);
} else if (asked) find("participant").value = asked;
