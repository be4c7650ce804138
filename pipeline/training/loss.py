"""The loss of a training step, as one module."""

from dataclasses import replace

from torch import Tensor, nn

from pipeline.backbones.interface import Backbone, Conditions
from pipeline.training.batches import Batch, noise_conditions
from pipeline.training.clip_dropout import ClipDropouts


class TrainingStep(nn.Module):
    """Losses (B,) of a batch. One module, so that several processes share the projector's gradients too."""

    def __init__(self, backbone: Backbone, schedule, condition_noise, switches, null: dict[str, Tensor]):
        super().__init__()
        self.backbone, self.schedule = backbone, schedule
        self.condition_noise, self.switches = condition_noise, switches
        self._dropouts = ClipDropouts(backbone)
        for name, value in null.items():
            self.register_buffer(f"null_{name}", value, persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        backbone, schedule, switches = self.backbone, self.schedule, self.switches
        self._dropouts.seed(batch.dropout_seeds)
        conditions = batch.conditions_with(backbone.image_context(batch.image_tokens))
        null_image = getattr(self, f"null_{backbone.image_input}")
        empty = backbone.unconditional(conditions, self.null_text, backbone.image_context(null_image[None]))
        if switches.told_fps == "default":
            conditions = replace(conditions, fps=None)

        def drop(conditions: Conditions) -> Conditions:
            return backbone.drop(conditions, empty, batch.drop_text, batch.drop_image)

        if switches.dropped_tokens == "noised":
            conditions = drop(conditions)
        conditions = noise_conditions(backbone, conditions, self.condition_noise, batch, schedule, switches)
        if switches.dropped_tokens == "clean":
            conditions = drop(conditions)
        x_t = schedule.add_noise(batch.x0, batch.noise, batch.t)
        output = backbone(*schedule.model_input(x_t, batch.t), conditions)
        return schedule.training_loss(output, batch.x0, batch.noise, x_t, batch.t)
