"""Real kernels, driven as a notebook drives them: by the messages of Jupyter's protocol."""
