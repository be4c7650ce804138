"""Tokenizers in the transformers' layout: trained on captions (demo), or CLIP's own (released checkpoints)."""

from pathlib import Path

from pipeline.errors import PipelineError


def load_tokenizer(folder: Path):
    """A tokenizer that ``save_pretrained`` wrote."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def clip_tokenizer(folder: Path, length: int, vocab_size: int):
    """CLIP's byte-pair tokenizer from ``vocab.json`` and ``merges.txt``, padding with id 0 as open_clip does.

    Raises PipelineError where a file is missing or the vocabulary is not the text tower's.
    """
    from transformers import CLIPTokenizerFast

    lacking = [name for name in ("vocab.json", "merges.txt") if not (folder / name).is_file()]
    if lacking:
        raise PipelineError(
            f"{folder} holds no {' and no '.join(lacking)}; give a folder with CLIP's tokenizer files, "
            "for example those of openai/clip-vit-large-patch14"
        )
    tokenizer = CLIPTokenizerFast.from_pretrained(folder, local_files_only=True)
    if len(tokenizer) != vocab_size:
        raise PipelineError(
            f"{folder}: the tokenizer has {len(tokenizer)} words, the text tower {vocab_size}; give CLIP's own files"
        )
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    tokenizer.model_max_length = length
    return tokenizer


def train_tokenizer(captions: list[str], vocab_size: int, length: int):
    """A byte-level BPE trained on ``captions``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    start, end = "<|startoftext|>", "<|endoftext|>"
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[start, end],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, 0), (end, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=start, eos_token=end, pad_token=end, model_max_length=length
    )  # fmt: skip
