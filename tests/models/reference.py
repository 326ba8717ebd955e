"""What PyTorch transformers computes, for the parity tests. Run as a script (where torch is) to store the small arrays that serve where it is not:

python -m tests.models.reference
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

STORED = Path(__file__).with_name("reference.npz")
TINY = dict(
    model_type="bert", architectures=["BertForTokenClassification"], vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=32, max_position_embeddings=24, type_vocab_size=2, hidden_act="gelu", layer_norm_eps=1e-12, hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1, initializer_range=0.3, pad_token_id=0, id2label={str(i): f"L{i}" for i in range(4)},
    label2id={f"L{i}": i for i in range(4)},
)  # fmt: skip


def random_batch(rng: np.random.Generator, *, vocab_size: int, max_length: int, num_labels: int, rows: int = 3) -> dict[str, np.ndarray]:
    """One example a row, of mixed lengths, the longest filling the row."""
    lengths = [max_length, *rng.integers(1, max_length, rows - 1)]
    shape = (rows, max_length)
    segment_ids = np.stack([(np.arange(max_length) < n) for n in lengths]).astype(np.int32)
    return {
        "input_ids": (rng.integers(1, vocab_size, shape) * segment_ids).astype(np.int32),
        "token_type_ids": (rng.integers(0, 2, shape) * segment_ids).astype(np.int32),
        "position_ids": (np.arange(max_length) * segment_ids).astype(np.int32),
        "segment_ids": segment_ids,
        "labels": np.where((segment_ids > 0) & (rng.random(shape) < 0.8), rng.integers(0, num_labels, shape), -100).astype(np.int32),
    }


def torch_model(config: dict[str, Any], directory: Path, *, seed: int) -> Any:
    """A random PyTorch model, biases and norms perturbed too, saved in `directory` as safetensors."""
    import torch
    from transformers import AutoConfig, AutoModelForTokenClassification

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    torch.manual_seed(seed)
    model = AutoModelForTokenClassification.from_config(AutoConfig.from_pretrained(directory), attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.eval().save_pretrained(directory)
    return model


def torch_outputs(model: Any, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Embeddings, first layer, hidden, logits, loss, and the gradient of the loss by Hugging Face name ("gradient:NAME")."""
    import torch

    given = {name: torch.tensor(batch[name]).long() for name in ("input_ids", "token_type_ids", "labels")}
    model.zero_grad()
    output = model(**given, attention_mask=torch.tensor(batch["segment_ids"]).long(), output_hidden_states=True)
    output.loss.backward()
    result = {
        "embeddings": output.hidden_states[0], "first_layer": output.hidden_states[1], "hidden": output.hidden_states[-1],
        "logits": output.logits, "loss": output.loss,
    }  # fmt: skip
    result |= {f"gradient:{name}": parameter.grad for name, parameter in model.named_parameters()}
    return {name: tensor.detach().numpy() for name, tensor in result.items()}


def main() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        model = torch_model(TINY, Path(directory), seed=0)
        weights = {f"weight:{name}": parameter.detach().numpy() for name, parameter in model.named_parameters()}
    batch = random_batch(np.random.default_rng(0), vocab_size=60, max_length=24, num_labels=4)
    np.savez_compressed(STORED, **weights, **{f"batch:{k}": v for k, v in batch.items()}, **torch_outputs(model, batch))


if __name__ == "__main__":
    main()
