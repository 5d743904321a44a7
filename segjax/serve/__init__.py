"""A local page that labels images with finished runs; needs `segjax[serve]`."""
