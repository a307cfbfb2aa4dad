"""The node itself: its dials, and a model that samples accelerated."""

from __future__ import annotations

from typing import Any

import tamias

from .models import Family, family_of
from .sampling import Accelerator

_AUTO = "auto"
_AS_THE_PROFILE = -1.0
_KEY = "tamias"


class TamiasAccelerate:
    """A copy of a model whose attention is computed as column-sparse deltas, and whose steps are skipped, as a profile
    and the dials say."""

    CATEGORY = "model_patches"
    DESCRIPTION = "Column-sparse attention and step caching, without training, as a profile and the dials say."
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "accelerate"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # ComfyUI's name
        share = {"default": _AS_THE_PROFILE, "min": _AS_THE_PROFILE, "max": 1.0, "step": 0.01}
        return {
            "required": {
                "model": ("MODEL",),
                "enabled": ("BOOLEAN", {"default": True, "tooltip": "Off: the model as it comes."}),
                "profile": (
                    [_AUTO, *tamias.profiles()],
                    {"default": _AUTO, "tooltip": "auto: the one made for this kind of model."},
                ),
                "attention": (["profile", "on", "off"], {"tooltip": "Column-sparse attention."}),
                "top_keys": (
                    "FLOAT",
                    share
                    | {"tooltip": "Share of the key columns that sparse steps compute; -1: the profile's."},
                ),
                "step_caching": (
                    ["profile", "off", "threshold"],
                    {"tooltip": "threshold: steps are skipped while the first block's input hardly changes."},
                ),
                "threshold": (
                    "FLOAT",
                    {"default": 0.1, "min": 0.0, "max": 10.0, "step": 0.01, "tooltip": "Of step_caching."},
                ),
            },
            "optional": {
                "overrides": (
                    "STRING",
                    {
                        "default": "",
                        "multiline": True,
                        "tooltip": "Single keys, one a line: attn.full_step_every=8",
                    },
                ),
                "threads": ("INT", {"default": 0, "min": 0, "max": 1024, "tooltip": "Of the CPU; 0: all."}),
            },
        }

    def accelerate(
        self,
        model: Any,
        enabled: bool,
        profile: str,
        attention: str,
        top_keys: float,
        step_caching: str,
        threshold: float,
        overrides: str = "",
        threads: int = 0,
    ) -> tuple[Any]:
        """The accelerated copy of a ComfyUI MODEL (a ModelPatcher), or the model itself."""
        if not enabled:
            return (model,)
        transformer = model.get_model_object("diffusion_model")
        family = family_of(transformer)
        settings = _settings(attention, top_keys, step_caching, threshold) + overrides.splitlines()
        accelerator = Accelerator(transformer, family, _config(family, profile, settings), threads)
        accelerated = model.clone()
        for kind, wrapper in (("outer_sample", accelerator.sample), ("diffusion_model", accelerator.forward)):
            accelerated.remove_wrappers_with_key(kind, _KEY)  # of another node like this one
            accelerated.add_wrapper_with_key(kind, _KEY, wrapper)
        accelerated.set_attachments(_KEY, accelerator)
        return (accelerated,)


def _settings(attention: str, top_keys: float, step_caching: str, threshold: float) -> list[str]:
    """The dials as keys of a profile."""
    settings = []
    if attention != "profile":
        settings.append(f"attn.is_enabled={'true' if attention == 'on' else 'false'}")
    if top_keys >= 0:
        settings.append(f"attn.top_keys={top_keys}")
    elif top_keys != _AS_THE_PROFILE:
        raise tamias.InvalidArgumentError(f"top_keys: expected -1 or 0 to 1, found {top_keys}")
    if step_caching == "off":
        settings.append("step_caching.is_enabled=false")
    elif step_caching == "threshold":
        settings += [
            "step_caching.is_enabled=true",
            "step_caching.skip_step_schedule=[]",
            f"step_caching.threshold={threshold}",
        ]
    return settings


def _config(family: Family, profile: str, settings: list[str]) -> tamias.SparsityConfig:
    config = tamias.SparsityConfig.load(family.profile if profile == _AUTO else profile)
    config.set("mlp.is_enabled=false")  # MLPs are the model's
    for setting in settings:
        if setting.strip():
            config.set(setting.strip())
    return config
