"""Matplotlib without a display, imported where a figure is drawn: it is slow to import."""


def pyplot():
    """matplotlib.pyplot with the agg backend."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as found

    return found
