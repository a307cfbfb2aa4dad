"""Model folders as people have them: variants, shards beside old files, stored types, what lies in a file's place."""

import gzip
import json
import os
import shutil
import struct
import zipfile

import numpy as np
import pytest
from conftest import MODEL, PROMPT, SMALL, expect_error, read_json, run
from test_broken_models import TRANSFORMER, read_header, replace_in_json, write_header

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4209\nsize 22142168\n"
FILES = {
    "transformer": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
}


def generate(model, output, *options):
    return run("generate", "--model", model, "--prompt", PROMPT, *SMALL, "--sparsity", "off", "--quiet",
               "--output", output, *options)


def fails(model, tmp_path, *fragments, options=()):
    output = tmp_path / "none.png"
    expect_error(generate(model, output, *options), 2, *fragments)
    assert not output.exists()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The demo model's picture."""
    output = tmp_path_factory.mktemp("reference") / "p.png"
    assert generate(MODEL, output).returncode == 0
    return output.read_bytes()


def picture(model, tmp_path, *options):
    output = tmp_path / "p.png"
    result = generate(model, output, *options)
    assert result.returncode == 0, result.stderr
    return output.read_bytes()


def same_pixels(one, other):
    """The pixels of two PNGs, whose texts name two models."""
    from io import BytesIO

    from PIL import Image
    return np.array_equal(*(np.asarray(Image.open(BytesIO(data))) for data in (one, other)))


def brighten(path):
    """Adds to the bias of the last layer: another picture."""
    header, data = read_header(path)
    begin, end = header["proj_out.bias"]["data_offsets"]
    dtype = {"F32": np.float32, "F16": np.float16}[header["proj_out.bias"]["dtype"]]
    bias = np.frombuffer(data[begin:end], dtype) + dtype(0.3)
    write_header(path, header, data[:begin] + bias.tobytes() + data[end:])


def write_shards(folder, stem, index_name, count=2):
    """Cuts FOLDER/STEM.safetensors into shards; the single file stays."""
    header, data = read_header(folder / f"{stem}.safetensors")
    names = sorted(name for name in header if name != "__metadata__")
    weight_map = {}
    for index in range(count):
        shard = f"{stem}-{index + 1:05}-of-{count:05}.safetensors"
        part, bytes_of_part = {}, b""
        for name in names[index::count]:
            begin, end = header[name]["data_offsets"]
            part[name] = header[name] | {"data_offsets": [len(bytes_of_part), len(bytes_of_part) + end - begin]}
            bytes_of_part += data[begin:end]
            weight_map[name] = shard
        write_header(folder / shard, part, bytes_of_part)
    (folder / index_name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return weight_map


def test_new_shards_beside_the_old_file_are_what_runs(model_copy, tmp_path, reference):
    folder = model_copy / "transformer"
    old = (folder / f"{FILES['transformer']}.safetensors").read_bytes()
    brighten(model_copy / TRANSFORMER)
    write_shards(folder, FILES["transformer"], "diffusion_pytorch_model.safetensors.index.json")
    new = picture(model_copy, tmp_path)
    (model_copy / TRANSFORMER).write_bytes(old)
    assert same_pixels(picture(model_copy, tmp_path), new)
    assert not same_pixels(new, reference)
    os.remove(folder / "diffusion_pytorch_model-00002-of-00002.safetensors")
    fails(model_copy, tmp_path, "00002-of-00002.safetensors: cannot open")
    os.remove(folder / "diffusion_pytorch_model-00001-of-00002.safetensors")
    assert same_pixels(picture(model_copy, tmp_path), reference)


def test_text_encoders_take_their_single_file_first(model_copy, tmp_path, reference):
    write_shards(model_copy / "text_encoder_2", "model", "model.safetensors.index.json")
    for shard in (model_copy / "text_encoder_2").glob("model-*"):
        shard.write_bytes(b"broken")
    assert same_pixels(picture(model_copy, tmp_path), reference)


def test_an_index_may_name_too_much_and_too_little(model_copy, tmp_path, reference):
    index = model_copy / "transformer/diffusion_pytorch_model.safetensors.index.json"
    weight_map = write_shards(index.parent, FILES["transformer"], index.name)
    os.remove(model_copy / TRANSFORMER)
    last = weight_map["proj_out.bias"]
    index.write_text(json.dumps({"weight_map": weight_map | {"unused_name": last}}))
    assert same_pixels(picture(model_copy, tmp_path), reference)
    del weight_map["proj_out.bias"]
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert same_pixels(picture(model_copy, tmp_path), reference)


def rename_to_variant(model, name, components=tuple(FILES)):
    for component in components:
        stem = model / component / FILES[component]
        os.rename(f"{stem}.safetensors", f"{stem}.{name}.safetensors")


def test_the_only_variant_is_read_without_asking(model_copy, tmp_path, reference):
    rename_to_variant(model_copy, "fp16")
    assert same_pixels(picture(model_copy, tmp_path), reference)
    assert same_pixels(picture(model_copy, tmp_path, "--variant", "fp16"), reference)
    inspected = json.loads(run("inspect", "--model", model_copy, "--json").stdout)
    assert [component["variant"] for component in inspected["components"]] == ["fp16"] * 4
    fails(model_copy, tmp_path, "variant 'bf16'", "found: fp16", options=["--variant", "bf16"])


def test_a_variant_is_read_where_a_component_has_it(model_copy, tmp_path, reference):
    stem = model_copy / "transformer" / FILES["transformer"]
    shutil.copy(f"{stem}.safetensors", f"{stem}.ema.safetensors")
    brighten(model_copy / "transformer/diffusion_pytorch_model.ema.safetensors")
    assert same_pixels(picture(model_copy, tmp_path), reference)
    assert not same_pixels(picture(model_copy, tmp_path, "--variant", "ema"), reference)
    result = run("generate", "--model", model_copy, "--prompt", PROMPT, *SMALL, "--variant", "ema", "--output", tmp_path / "q.png")
    assert "note: vae has no weights of the variant 'ema'; its plain ones are read" in result.stderr
    assert "transformer has no" not in result.stderr


def test_several_variants_ask_for_a_choice(model_copy, tmp_path):
    rename_to_variant(model_copy, "fp16", ["transformer"])
    stem = model_copy / "transformer" / FILES["transformer"]
    shutil.copy(f"{stem}.fp16.safetensors", f"{stem}.bf16.safetensors")
    fails(model_copy, tmp_path, "/transformer: only variants of the weights, 'bf16', 'fp16'", "--variant")


def test_sharded_variants(model_copy, tmp_path, reference):
    folder = model_copy / "transformer"
    write_shards(folder, FILES["transformer"], "diffusion_pytorch_model.safetensors.index.fp16.json")
    for file in folder.glob("*-of-*"):
        name = file.name.replace("diffusion_pytorch_model-", "diffusion_pytorch_model.fp16-")
        os.rename(file, folder / name)
    index = folder / "diffusion_pytorch_model.safetensors.index.fp16.json"
    index.write_text(index.read_text().replace("diffusion_pytorch_model-", "diffusion_pytorch_model.fp16-"))
    os.remove(model_copy / TRANSFORMER)
    assert same_pixels(picture(model_copy, tmp_path), reference)
    assert same_pixels(picture(model_copy, tmp_path, "--variant", "fp16"), reference)


def store_as(path, dtype, numpy_type):
    """Stores every float of a safetensors file in another type."""
    header, data = read_header(path)
    header.pop("__metadata__", None)
    result, stored = {}, b""
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[begin:end], {"F32": np.float32, "F16": np.float16}[entry["dtype"]])
        converted = values.astype(numpy_type).tobytes()
        result[name] = {"dtype": dtype, "shape": entry["shape"],
                        "data_offsets": [len(stored), len(stored) + len(converted)]}
        stored += converted
    write_header(path, result, stored)


def test_doubles_are_widened_to_what_computes(model_copy, tmp_path):
    store_as(model_copy / TRANSFORMER, "F32", np.float32)
    as_floats = picture(model_copy, tmp_path)
    store_as(model_copy / TRANSFORMER, "F64", np.float64)
    assert same_pixels(picture(model_copy, tmp_path), as_floats)
    plan = json.loads(run("inspect", "--model", model_copy, "--json").stdout)["memory_dense"]["entries"]
    sizes = {entry["name"]: entry["bytes"] for entry in plan}
    doubles = sizes["denoising: weights of transformer (mapped)"]
    assert sizes["weights of transformer, widened"] == doubles / 2


def to_e5m2(path):
    """Rounds fp16 towards zero to its upper byte, which is F8_E5M2."""
    header, data = read_header(path)
    header.pop("__metadata__", None)
    result, half, eighth = {}, b"", b""
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[begin:end], {"F32": np.float32, "F16": np.float16}[entry["dtype"]])
        bits = values.astype(np.float16).view(np.uint16) & 0xFF00
        result[name] = {"shape": entry["shape"], "count": bits.size}
        half += bits.tobytes()
        eighth += (bits >> 8).astype(np.uint8).tobytes()
    for dtype, size, stored in (("F16", 2, half), ("F8_E5M2", 1, eighth)):
        out, at = {}, 0
        for name, entry in result.items():
            end = at + size * entry["count"]
            out[name] = {"dtype": dtype, "shape": entry["shape"], "data_offsets": [at, end]}
            at = end
        yield out, stored


def test_eight_bit_floats_give_the_picture_of_the_same_numbers_in_sixteen(model_copy, tmp_path):
    pictures = []
    for header, data in list(to_e5m2(model_copy / TRANSFORMER)):
        write_header(model_copy / TRANSFORMER, header, data)
        # auto would compute with the eight bits' bf16 where the processor does that
        pictures.append(picture(model_copy, tmp_path, "--dtype", "f32"))
    assert same_pixels(*pictures)


def test_scales_beside_eight_bit_floats_are_refused(model_copy, tmp_path):
    _, (header, data) = to_e5m2(model_copy / TRANSFORMER)
    header["x_embedder.weight_scale"] = {"dtype": "F32", "shape": [], "data_offsets": [len(data), len(data) + 4]}
    write_header(model_copy / TRANSFORMER, header, data + struct.pack("<f", 2))
    fails(model_copy, tmp_path, TRANSFORMER, "'x_embedder.weight'", "quantised weights are not supported")


def test_tensors_and_fields_that_nobody_reads(model_copy, tmp_path, reference):
    path = model_copy / "text_encoder/model.safetensors"
    header, data = read_header(path)
    header["causal_mask"] = {"dtype": "BOOL", "shape": [1, 1, 4, 4], "data_offsets": [len(data), len(data) + 16]}
    header["__metadata__"] = None
    write_header(path, header, data + bytes(16))
    config = read_json(model_copy / "scheduler/scheduler_config.json") | {"lambda_min_clipped": float("-inf")}
    (model_copy / "scheduler/scheduler_config.json").write_text(json.dumps(config))
    assert "-Infinity" in (model_copy / "scheduler/scheduler_config.json").read_text()
    assert same_pixels(picture(model_copy, tmp_path), reference)
    assert run("inspect", "--model", model_copy).returncode == 0


def test_numbers_that_are_not_finite_are_named_where_they_are_read(model_copy, tmp_path):
    path = model_copy / "scheduler/scheduler_config.json"
    path.write_text(json.dumps(read_json(path) | {"shift": float("nan")}))
    fails(model_copy, tmp_path, "scheduler_config.json", "field 'shift'", "found NaN")


def test_a_whole_clip_model_as_text_encoder(model_copy, tmp_path, reference):
    folder = model_copy / "text_encoder"
    header, data = read_header(folder / "model.safetensors")
    header = {name if name.startswith(("text_model.", "__")) else f"text_model.{name}": entry
              for name, entry in header.items()}
    write_header(folder / "model.safetensors", header, data)
    config = {"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": 64,
              "text_config": read_json(folder / "config.json"), "vision_config": {}}
    (folder / "config.json").write_text(json.dumps(config))
    assert same_pixels(picture(model_copy, tmp_path), reference)


@pytest.mark.parametrize("component, file", [
    ("transformer", "diffusion_pytorch_model.safetensors"), ("vae", "config.json"),
    ("text_encoder_2", "model.safetensors"), ("tokenizer_2", "tokenizer.json"),
    ("scheduler", "scheduler_config.json"), (".", "model_index.json"), (".", "tamias.json")])
def test_what_lies_in_a_files_place_is_named(model_copy, tmp_path, component, file):
    path = model_copy / component / file
    pickle = tmp_path / "pickle.zip"
    with zipfile.ZipFile(pickle, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
    for content, text in ((LFS.encode(), "a Git LFS pointer"), (b"<!DOCTYPE html><html>", "an HTML page"),
                          (gzip.compress(b"{}"), "gzip data"), (pickle.read_bytes(), "pickle")):
        path.write_bytes(content)
        fails(model_copy, tmp_path, file, text)
    path.unlink()
    path.symlink_to("../../blobs/0123")
    fails(model_copy, tmp_path, file, "a link to ../../blobs/0123, which is not there")
    path.unlink()
    os.mkfifo(path)  # to which nobody writes
    output = tmp_path / "none.png"
    result = generate(model_copy, output)
    assert result.returncode in (1, 2) and file in result.stderr and not output.exists()


def test_configs_need_not_name_a_class(model_copy):
    for config in ({"architectures": []}, {"architectures": ["CLIPTextModel"]}):
        replace_in_json(model_copy / "text_encoder/config.json", **config)
        result = run("inspect", "--model", model_copy)
        assert result.returncode == 0, result.stderr


def test_folders_of_pickles_and_quantised_weights(model_copy, tmp_path):
    os.rename(model_copy / TRANSFORMER, model_copy / "transformer/diffusion_pytorch_model.bin")
    fails(model_copy, tmp_path, "diffusion_pytorch_model.bin", "pickle", "safetensors")
    os.rename(model_copy / "transformer/diffusion_pytorch_model.bin", model_copy / TRANSFORMER)
    config = model_copy / "transformer/config.json"
    replace_in_json(config, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    fails(model_copy, tmp_path, "transformer/config.json", "'quantization_config'", "(bitsandbytes)")
    replace_in_json(config, quantization_config=None)
    header, data = read_header(model_copy / TRANSFORMER)
    for entry in header.values():
        if len(entry.get("shape", [])) == 2:
            begin, end = entry["data_offsets"]
            entry.update(dtype="U8", shape=[end - begin, 1])
    write_header(model_copy / TRANSFORMER, header, data)
    fails(model_copy, tmp_path, TRANSFORMER, "found u8", "quantised weights are not supported")


def test_paths_that_are_not_model_folders(model_copy, tmp_path):
    fails(MODEL / TRANSFORMER, tmp_path, "expected a folder", "single-file checkpoints are not read")
    fails(MODEL / "model_index.json", tmp_path, "give the folder that holds it")
    fails(MODEL / "transformer", tmp_path, "no model_index.json", "one component: give the folder above it")
    cache = tmp_path / "models--a--b"
    (cache / "snapshots").mkdir(parents=True)
    fails(cache, tmp_path, "no model_index.json", "give a folder below snapshots/")
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    fails(link, tmp_path, "a link to nowhere, which is not there")
    shutil.rmtree(model_copy / "vae")
    (model_copy / "vae").symlink_to("../gone")
    fails(model_copy, tmp_path, "vae", "a link to ../gone, which is not there")
