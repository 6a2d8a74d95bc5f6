"""The models as torchtitan's trainer finds them: `--experimental.custom_import=lab.specs`."""

from dataclasses import dataclass

from lab.models.fan.model import Fan
from lab.models.fan.parallelize import parallelize_fan
from lab.models.tower.model import Tower
from lab.models.tower.parallelize import parallelize_tower
from torchtitan.components.loss import build_cross_entropy_loss
from torchtitan.components.lr_scheduler import build_lr_schedulers
from torchtitan.components.optimizer import build_optimizers
from torchtitan.components.tokenizer import build_hf_tokenizer
from torchtitan.hf_datasets.text_datasets import build_text_dataloader
from torchtitan.protocols.model import BaseModelArgs
from torchtitan.protocols.train_spec import TrainSpec, register_train_spec


@dataclass
class Args(BaseModelArgs):
    vocab_size: int = 2048
    dim: int = 32

    def update_from_config(self, job_config, **kwargs):
        pass

    def get_nparams_and_flops(self, model, seq_len):
        return sum(p.numel() for p in model.parameters()), 1


class LabTower(Tower):
    def __init__(self, args: Args):
        super().__init__(args.vocab_size, args.dim)

    def init_weights(self, buffer_device=None):
        for part in self.modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()

    def forward(self, tokens, **_):
        return super().forward(tokens)


class LabFan(Fan):
    def __init__(self, args: Args):
        super().__init__(args.vocab_size, args.dim)

    init_weights = LabTower.init_weights

    def forward(self, tokens, **_):
        return super().forward(tokens)


def spec(cls, plan):
    return TrainSpec(
        model_cls=cls,
        model_args={"debugmodel": Args()},
        parallelize_fn=plan,
        pipelining_fn=None,
        build_optimizers_fn=build_optimizers,
        build_lr_schedulers_fn=build_lr_schedulers,
        build_dataloader_fn=build_text_dataloader,
        build_tokenizer_fn=build_hf_tokenizer,
        build_loss_fn=build_cross_entropy_loss,
    )


register_train_spec("tower", spec(LabTower, parallelize_tower))
register_train_spec("fan", spec(LabFan, parallelize_fan))
