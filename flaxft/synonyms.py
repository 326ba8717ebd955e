"""What a setting of flaxft is called elsewhere, so that a flag of another program is answered with ours; imports nothing of what it names."""

from __future__ import annotations

# The rows of docs/migrating.md: names there, separated by blanks, and what is said of them here.
TABLE = (
    ("model_name_or_path", "--config.model.path, a directory or a hub id"),
    ("model_revision", "--config.model.revision"),
    ("config_name tokenizer_name", "none: both lie in the model's directory"),
    ("cache_dir", "the variables HF_HOME (hub) and FLAXFT_CACHE (tokenised data, compiled programs)"),
    ("token use_auth_token hub_token", "the variable HF_TOKEN"),
    ("trust_remote_code", "none: no code of a model or data set is run, ever"),
    ("use_slow_tokenizer use_fast_tokenizer", "none: the fast one"),
    ("dtype", "--config.model.dtype=bfloat16; parameters, norms, softmax and loss stay float32. float16 is not offered"),
    ("dataset_name dataset_config_name", "--config.task.train=hub:NAME/SUBSET, and the same for validation and test"),
    ("train_file validation_file test_file", "--config.task.train, --config.task.validation, --config.task.test"),
    ("max_train_samples max_eval_samples max_predict_samples", "--config.data.max_examples, one number for every split"),
    ("max_seq_length max_length", "--config.data.max_length"),
    ("pad_to_max_length", "none: rows are packed. One example a row is --config.data.num_slots=1"),
    ("overwrite_cache", "none: the cache goes by content. --config.data.cache=false does without"),
    ("preprocessing_num_workers", "none for tokenising; --config.data.threads make batches"),
    ("output_dir", "--workdir"),
    ("overwrite_output_dir", "none: the same command goes on where it stopped, another one is refused; give another --workdir"),
    ("do_train", "--mode=train, the default: train, then score every split that has a path"),
    ("do_eval", "--mode=eval"),
    ("do_predict", "a path for --config.task.test, or --mode=predict --input=FILE for texts"),
    ("per_device_train_batch_size", "--config.data.batch_size, over all devices"),
    ("per_device_eval_batch_size", "--config.data.eval_tokens, tokens on a device; the scores do not depend on it"),
    ("learning_rate", "--config.optim.learning_rate"),
    ("weight_decay", "--config.optim.weight_decay"),
    ("adam_beta1 adam_beta2 adam_epsilon", "--config.optim.b1, --config.optim.b2, --config.optim.eps"),
    ("adafactor", "none: AdamW alone so far. The NER, GLUE and QA scripts took the flag and did nothing with it"),
    ("num_train_epochs", "--config.num_epochs"),
    ("max_train_steps", "--config.num_steps"),
    ("warmup_steps num_warmup_steps", "--config.optim.warmup, from 1 on a number of steps, below 1 a share of them"),
    ("logging_steps", "--config.log.every; metrics.jsonl has every step"),
    ("save_steps", "--config.checkpoint.every; --config.checkpoint.keep says how many stay"),
    ("eval_steps", "--config.evals.validation.every; 0 is the end of each epoch"),
    ("seed", "--config.seed"),
    ("push_to_hub hub_model_id", "none in training: save_pretrained, then huggingface-cli upload; the last cell of launch/colab.ipynb does it from Python"),
    ("task_name", "the column: --config.task.label_column=pos_tags; schemes are recognised, plain tags too"),
    ("text_column_name label_column_name", "--config.task.text_columns, --config.task.label_column"),
    ("label_all_tokens", "--config.task.label_all_tokens"),
    ("return_entity_level_metrics", "none: scores of each type are always there"),
    ("task_name", "--config=configs/glue.py:sst2"),
    ("version_2_with_negative", "--config.task.version_2; none looks at the data"),
    ("null_score_diff_threshold", "none: fitted on validation, and saved with the run"),
    ("doc_stride", "--config.task.stride"),
    ("n_best_size", "--config.task.n_best_size"),
    ("max_answer_length", "--config.task.max_answer_length"),
    ("model_type", "--config=configs/mlm.py:scratch, from a directory with config.json, tokenizer and weights to begin with"),
    ("mlm_probability", "--config.task.mask_probability"),
    ("line_by_line", "always so: a record is a line or a column's text; what is too long becomes several examples"),
    ("train_ref_file validation_ref_file", "--config.task.whole_words, by the tokenizer's own words; reference files for Chinese words are not read"),
    ("validation_split_percentage", "none: give --config.task.validation"),
    ("gradient_checkpointing", "--config.model.remat=true"),
    ("max_steps", "--config.num_steps"),
    ("lr_scheduler_type", "--config.optim.schedule: linear, cosine, polynomial or constant"),
    ("warmup_ratio", "--config.optim.warmup, below 1 a share of all steps"),
    ("max_grad_norm", "--config.optim.clip_norm"),
    ("gradient_accumulation_steps", "none: --config.data.batch_size is that of a whole step, which accumulates where --config.data.max_rows says so"),
    ("fp16 bf16", "--config.model.dtype=bfloat16"),
    ("label_smoothing_factor", "--config.task.label_smoothing"),
    ("eval_strategy evaluation_strategy", "--config.evals.validation.every; 0 is the end of each epoch"),
    ("save_strategy", "--config.checkpoint.every"),
    ("save_total_limit", "--config.checkpoint.keep"),
    ("load_best_model_at_end", "none: the best checkpoint is always kept, scored at the end and exported"),
    ("metric_for_best_model greater_is_better", "--config.task.main_metric, where a leading - says that smaller is better"),
    ("early_stopping_patience", "--config.evals.validation.patience"),
    ("resume_from_checkpoint", "none: the same command goes on where it stopped"),
    ("report_to", "--config.log.wandb, --config.log.mlflow or --config.log.trackio; TensorBoard's files are there by themselves"),
    ("logging_dir", "none: the workdir's tensorboard"),
    ("dataloader_num_workers", "--config.data.threads"),
    ("no_cuda use_cpu", "the variable JAX_PLATFORMS=cpu"),
    ("train_batch_size", "--config.data.batch_size"),
    ("torch_compile", "none: every program is compiled"),
)  # fmt: skip
# Short and other spellings of a field's name, whatever section it is in.
FIELDS = {
    "lr": "learning_rate", "rate": "learning_rate", "epochs": "num_epochs", "n_epochs": "num_epochs", "steps": "num_steps", "bs": "batch_size",
    "batchsize": "batch_size", "batch": "batch_size", "max_len": "max_length", "maxlen": "max_length", "seq_length": "max_length", "seq_len": "max_length",
    "max_seq_len": "max_length", "wd": "weight_decay", "decay": "weight_decay", "scheduler": "schedule", "lr_scheduler": "schedule", "warmup_steps": "warmup",
    "beta1": "b1", "beta2": "b2", "epsilon": "eps", "grad_clip": "clip_norm", "clip": "clip_norm", "dropout": "hidden_dropout", "valid": "validation",
    "dev": "validation", "val": "validation", "eval": "validation", "text_column": "text_columns", "text": "text_columns", "label": "label_column",
    "data": "train", "data_file": "train", "data_path": "train", "dataset": "train", "train_data": "train", "training_data": "train", "file": "train",
    "metric": "main_metric", "workers": "threads", "num_workers": "threads", "precision": "dtype", "patience": "patience", "limit": "max_examples",
}  # fmt: skip


def answer(name: str) -> str:
    """What the flag `name` of another program is here, in words; "" for one that is not in the table."""
    said = []
    for names, now in TABLE:
        listed = names.split()
        if name in listed:
            parts = now.split(", ")
            one_each = len(listed) > 1 and len(parts) == len(listed) and all(part.startswith("--") for part in parts)
            said.append(parts[listed.index(name)] if one_each else now)
    return "; or ".join(said)
