"""The notebook as people see it: JupyterLab in a real browser."""
