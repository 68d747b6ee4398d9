"""The commands that use an export."""

from __future__ import annotations

from finetuning_exam.exporting.report import Exported


def how_to_use(exported: Exported, folder: str) -> tuple[str, ...]:
    """Return the commands that run an export; `folder` is how a command line names it."""
    if exported.format == "merged":
        return (
            f"Transformers: transformers chat {folder}",
            f"vLLM: vllm serve {folder}",
        )
    file = f"{folder}/{gguf_name(exported.number_format)}"
    if exported.format == "gguf":
        return (f"llama.cpp: llama-cli -m {file}",)
    if exported.format == "gguf-adapter":
        adapter = f"{folder}/{adapter_name(exported.number_format)}"
        return (f"llama.cpp: llama-cli -m BASE.gguf --lora {adapter}",)
    return (f"Ollama: ollama create my-model -f {folder}/Modelfile && ollama run my-model",)


def gguf_name(number_format: str) -> str:
    """Return the name of the GGUF file in an export."""
    return f"model-{number_format}.gguf"


def adapter_name(number_format: str) -> str:
    """Return the name of the GGUF file of an adapter in an export."""
    return f"adapter-{number_format}.gguf"
