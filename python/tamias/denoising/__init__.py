"""The calls of an accelerated transformer of PyTorch, whatever framework makes them: the state of each item of a
batch, attention as deltas, and what skipped steps reuse. `tamias.diffusers` and the node for ComfyUI
(integrations/comfyui) are written on it. PyTorch is imported here.
"""
