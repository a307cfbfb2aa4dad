"""The node "Tamias Accelerate" for ComfyUI: this folder, or a link to it, in custom_nodes (docs/comfyui.md)."""

from .node import TamiasAccelerate

NODE_CLASS_MAPPINGS = {"TamiasAccelerate": TamiasAccelerate}
NODE_DISPLAY_NAME_MAPPINGS = {"TamiasAccelerate": "Tamias Accelerate"}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
