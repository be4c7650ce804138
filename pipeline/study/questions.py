"""The four questions of the paper's user study."""

QUESTIONS = (
    ("motion", "In which video is there more of the motion that the text and the picture suggest?"),
    ("temporal consistency", "Which video is steadier: things keep their shape and colour from frame to frame?"),
    ("image alignment", "Which video keeps closer to the picture it starts from?"),
    ("overall", "Which video is better overall?"),
)
