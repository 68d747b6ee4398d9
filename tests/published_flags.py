"""Flags and keys that other tools publish: TRL's from its classes, the others' from their docs."""

from __future__ import annotations

from dataclasses import MISSING, fields


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


LLAMAFACTORY = _names("""
model_name_or_path adapter_name_or_path trust_remote_code cache_dir use_fast_tokenizer
resize_vocab split_special_tokens add_tokens add_special_tokens model_revision low_cpu_mem_usage
rope_scaling flash_attn shift_attn use_unsloth use_unsloth_gc enable_liger_kernel
moe_aux_loss_coef disable_gradient_checkpointing use_reentrant_gc upcast_layernorm
upcast_lmhead_output use_kv_cache hf_hub_token print_param_status quantization_method
quantization_bit quantization_type double_quantization fp8 export_dir stage do_train do_eval
do_predict finetuning_type freeze_trainable_layers additional_target lora_alpha lora_dropout
lora_rank lora_target loraplus_lr_ratio use_rslora use_dora pissa_init create_new_adapter
use_galore use_apollo use_badam pref_beta pref_loss pure_bf16 use_dft_loss compute_accuracy
plot_loss include_num_input_tokens_seen template dataset eval_dataset dataset_dir media_dir
cutoff_len train_on_prompt mask_history streaming buffer_size mix_strategy interleave_probs
overwrite_cache preprocessing_batch_size preprocessing_num_workers max_samples val_size packing
neat_packing tool_format default_system tokenized_path output_dir overwrite_output_dir
logging_steps save_steps save_only_model save_total_limit report_to run_name
per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps learning_rate
num_train_epochs max_steps lr_scheduler_type warmup_ratio warmup_steps weight_decay max_grad_norm
optim bf16 fp16 ddp_timeout deepspeed resume_from_checkpoint eval_strategy eval_steps
load_best_model_at_end seed neftune_noise_alpha dataloader_num_workers predict_with_generate
""")
"""The main options of LlamaFactory's guide and its examples of supervised fine-tuning."""

AXOLOTL = _names("""
base_model base_model_config model_type tokenizer_type tokenizer_config tokenizer_use_fast
tokenizer_legacy trust_remote_code revision_of_model load_in_8bit load_in_4bit gptq strict
datasets test_datasets dataset_prepared_path dataset_processes dataset_keep_in_memory
dataset_exact_deduplication shuffle_merged_datasets dataset_shard_num dataset_shard_idx
skip_prepare_dataset push_dataset_to_hub hf_use_auth_token val_set_size adapter lora_model_dir
lora_r lora_alpha lora_dropout lora_target_modules lora_target_parameters lora_target_linear
lora_fan_in_fan_out lora_modules_to_save peft_layers_to_transform peft_use_dora peft_use_rslora
peft_init_lora_weights peft loraplus_lr_ratio lora_on_cpu lora_mlp_kernel lora_qkv_kernel
lora_o_kernel sequence_len min_sample_len excess_length_strategy pad_to_sequence_len
sample_packing eval_sample_packing batch_flattening curriculum_sampling train_on_inputs
group_by_length chat_template chat_template_jinja default_system_message eot_tokens special_tokens
tokens wandb_project wandb_entity wandb_watch wandb_name wandb_run_id wandb_log_model
mlflow_experiment_name use_wandb use_tensorboard use_mlflow gradient_accumulation_steps
micro_batch_size batch_size eval_batch_size num_epochs optimizer optim_args lr_scheduler
lr_scheduler_kwargs cosine_min_lr_ratio learning_rate weight_decay max_grad_norm adam_beta1
adam_beta2 adam_epsilon embedding_lr bf16 fp16 tf32 bfloat16 float16 gradient_checkpointing
gradient_checkpointing_kwargs activation_offloading early_stopping_patience resume_from_checkpoint
auto_resume_from_checkpoints logging_steps flash_attention sdp_attention xformers_attention
eager_attention flex_attention warmup_steps warmup_ratio evals_per_epoch eval_steps eval_strategy
saves_per_epoch save_steps save_strategy save_total_limit save_only_model save_safetensors
max_steps eval_table_size eval_max_new_tokens load_best_model_at_end metric_for_best_model
greater_is_better neftune_noise_alpha output_dir hub_model_id hub_strategy deepspeed fsdp
fsdp_config seed local_rank ddp_timeout device_map max_memory gpu_memory_limit low_cpu_mem_usage
torch_compile plugins rl relora merge_lora pretraining_dataset unfrozen_parameters
""")
"""The main keys of Axolotl's configuration reference."""

UNSLOTH = _names("""
model_name max_seq_length dtype load_in_4bit load_in_8bit load_in_16bit full_finetuning token
device_map rope_scaling fix_tokenizer trust_remote_code use_gradient_checkpointing
resize_model_vocab revision use_exact_model_name fast_inference gpu_memory_utilization
max_lora_rank r target_modules lora_alpha lora_dropout bias layers_to_transform layers_pattern
random_state use_rslora modules_to_save init_lora_weights loftq_config temporary_location
finetune_language_layers finetune_attention_modules finetune_mlp_modules finetune_vision_layers
dataset per_device_train_batch_size gradient_accumulation_steps warmup_steps max_steps
num_train_epochs learning_rate optim weight_decay lr_scheduler_type seed report_to logging_steps
output_dir packing train_on_responses_only chat_template save_model save_method save_gguf
save_path quantization push_model push_gguf push_to_hub hub_path hub_token adapter_file
""")
"""Parameters of from_pretrained and get_peft_model, and flags of Unsloth's command line."""

OPENAI = _names("""
model training_file validation_file n_epochs batch_size learning_rate_multiplier suffix seed
method integrations metadata hyperparameters
""")
"""Parameters of OpenAI's fine-tuning jobs."""

MLX = _names("""
model data train test fine_tune_type optimizer mask_prompt num_layers batch_size iters val_batches
learning_rate steps_per_report steps_per_eval grad_accumulation_steps resume_adapter_file
adapter_path save_every test_batches max_seq_length grad_checkpoint report_to project_name seed
lr_schedule
""")
"""Flags and keys of `mlx_lm.lora`."""

HABITS = _names("""
lr epochs batch_size bf16 fp16 cutoff_len resume load_in_4bit packing use_dora push_to_hub rank
max_len train_file val_file test_file model_path base_model_name_or_path output out_dir patience
lora_target lora_bias no_cuda num_gpus torch_dtype fp32 quantize task_type logging_dir
""")
"""Names that people try."""


def trl_defaults() -> dict[str, str]:
    """Return every flag of `trl sft` with its default, as its command line would be given it."""
    from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig

    found: dict[str, str] = {}
    for kind in (ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig):
        for field in fields(kind):
            default = None if field.default is MISSING else field.default
            found[field.name] = str(getattr(default, "value", default))
    return found


OTHERS = {
    "LlamaFactory": LLAMAFACTORY,
    "Axolotl": AXOLOTL,
    "Unsloth": UNSLOTH,
    "OpenAI": OPENAI,
    "mlx-lm": MLX,
    "habit": HABITS,
}
