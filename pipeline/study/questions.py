"""The four questions of the paper's user study."""

QUESTIONS = (
    ("motion", "Which video has more dynamic and natural motion?"),
    (
        "temporal consistency",
        "In which video do things keep their shape and colour better from frame to frame, however much they move?",
    ),
    ("image alignment", "Which video keeps closer to the picture that both were made from?"),
    ("overall", "Which video is better overall?"),
)
