"""Draws road scenes with exact labels: geometry in metres, seen by a pinhole camera.

The scenes are made to be hard in the way photographs of streets are: sky, road,
pavement and walls share greys, cars and pedestrians share dark colours, poles are
one to three pixels wide, fences are seen through, light and camera vary.

World axes: x to the right, y up from the road, z ahead of the camera, metres.
Things are painted from far to near on a canvas `SCALE` times too large; the image
is averaged down, the label takes the middle pixel of each block and stays crisp.
"""
