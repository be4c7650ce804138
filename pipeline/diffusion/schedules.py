"""Forward processes X_t = alpha_t s_t X0 + sigma_t eps, and how a network's output becomes an estimate of X0.

Two classes with one interface; time is a batch ``t`` of shape (B,): integer steps for VP, sigma for VE. Computed in
float64, kept in float32. Source: paper section 2, facts of the released code, Karras et al. 2022 for the EDM
preconditioning.
"""

import math
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import PipelineError

RESCALE_STEPS, RESCALE_END = 400, 0.7  # s_t falls from 1 to 0.7 over the first 400 steps


def _like(values: Tensor, x: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, …), on the device and in the type of ``x``."""
    return values.to(device=x.device, dtype=x.dtype).reshape(-1, *[1] * (x.dim() - 1))


def scaled_linear_alphas_cumprod(num_steps: int, beta_start: float, beta_end: float, zero_terminal_snr: bool) -> Tensor:
    """Products of (1 - beta), float64, shape (num_steps,); betas linear in square-root space.

    With ``zero_terminal_snr`` the square roots are shifted and scaled so that the last is exactly 0 (Lin et al. 2024).
    """
    betas = torch.linspace(math.sqrt(beta_start), math.sqrt(beta_end), num_steps, dtype=torch.float64) ** 2
    cumprod = torch.cumprod(1 - betas, 0)
    if zero_terminal_snr:
        roots = cumprod.sqrt()
        first, last = roots[0].clone(), roots[-1].clone()
        cumprod = ((roots - last) * first / (first - last)) ** 2
    return cumprod


class VPSchedule:
    """Variance-preserving process of ``num_steps`` discrete steps; predicts eps or v.

    ``input_rescale`` multiplies X0 by s_t before noising, as VideoCrafter1 and DynamiCrafter do.
    """

    kind = "vp"

    def __init__(
        self,
        num_steps: int,
        beta_start: float,
        beta_end: float,
        zero_terminal_snr: bool,
        input_rescale: bool,
        prediction: str,
    ):
        if prediction == "eps" and zero_terminal_snr:
            raise PipelineError(
                "process: eps-prediction is undefined at zero terminal SNR (alpha_T = 0); use prediction v"
            )
        self.num_steps, self.prediction = num_steps, prediction
        cumprod = scaled_linear_alphas_cumprod(num_steps, beta_start, beta_end, zero_terminal_snr)
        scale = torch.full((num_steps,), RESCALE_END if input_rescale else 1.0, dtype=torch.float64)
        if input_rescale:
            falling = torch.linspace(1.0, RESCALE_END, RESCALE_STEPS, dtype=torch.float64)
            scale[:RESCALE_STEPS] = falling[:num_steps]
        self.alphas_cumprod = cumprod  # float64
        self.alphas = cumprod.sqrt().float()
        self.sigmas = (1 - cumprod).sqrt().float()
        self.scales = scale.float()

    def sample_time(self, n: int, generator: torch.Generator) -> Tensor:
        """Training times: uniform steps, (n,) int64."""
        return torch.randint(0, self.num_steps, (n,), generator=generator)

    def fraction(self, t: Tensor) -> Tensor:
        """TimeNoise's t in [0, 1): step / T."""
        return t.float() / self.num_steps

    def noise_std(self, t: Tensor) -> Tensor:
        """sigma_t, (B,)."""
        return self.sigmas[t.to("cpu", torch.int64)].to(t.device)

    def coefficients(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """alpha_t, sigma_t and s_t, shaped to multiply ``x``."""
        t = t.to("cpu", torch.int64)
        return _like(self.alphas[t], x), _like(self.sigmas[t], x), _like(self.scales[t], x)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """A sample of q(X_t | X0)."""
        alpha, sigma, scale = self.coefficients(t, x0)
        return alpha * scale * x0 + sigma * noise

    def model_input(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is fed: x_t itself and the step."""
        return x_t, t

    def x0_from_output(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Estimate of X0 (without s_t) from the network's eps or v."""
        alpha, sigma, scale = self.coefficients(t, x_t)
        scaled = alpha * x_t - sigma * output if self.prediction == "v" else (x_t - sigma * output) / alpha
        return scaled / scale

    def training_loss(self, output: Tensor, x0: Tensor, noise: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Mean squared error on eps or v, one value a sample, (B,)."""
        alpha, sigma, scale = self.coefficients(t, x0)
        target = alpha * noise - sigma * scale * x0 if self.prediction == "v" else noise
        return (output.float() - target).square().flatten(1).mean(1)


class VESchedule:
    """Variance-exploding process with EDM preconditioning (F-prediction, sign as SVD's v-prediction).

    ``fraction_map`` states what TimeNoise's t means: ``sigma_over_max`` (the literal reading), ``equal_snr`` (the step
    of Stable Diffusion's VP schedule with the same signal-to-noise ratio), or ``training_quantile`` (the share of
    training draws below sigma, so that t is uniform in training, as it is for VP).
    """

    kind = "ve"

    def __init__(
        self,
        sigma_min: float,
        sigma_max: float,
        sigma_data: float,
        p_mean: float,
        p_std: float,
        rho: float,
        fraction_map: str,
    ):
        self.sigma_min, self.sigma_max, self.sigma_data = sigma_min, sigma_max, sigma_data
        self.p_mean, self.p_std, self.rho, self.fraction_map = p_mean, p_std, rho, fraction_map
        cumprod = scaled_linear_alphas_cumprod(1000, 0.00085, 0.012, zero_terminal_snr=False)
        self._log_ratio = 0.5 * ((1 - cumprod) / cumprod).log()

    def sample_time(self, n: int, generator: torch.Generator) -> Tensor:
        """Training noise levels: ln sigma ~ N(p_mean, p_std), (n,) float32."""
        return (self.p_mean + self.p_std * torch.randn(n, generator=generator)).exp()

    def fraction(self, t: Tensor) -> Tensor:
        """TimeNoise's t in [0, 1] by ``fraction_map``."""
        if self.fraction_map == "sigma_over_max":
            return (t.float() / self.sigma_max).clamp(0, 1)
        if self.fraction_map == "training_quantile":
            return torch.special.ndtr((t.float().log() - self.p_mean) / self.p_std)
        steps = torch.searchsorted(self._log_ratio, (t.double().cpu() / self.sigma_data).log())
        return (steps.float() / len(self._log_ratio)).to(t.device)

    def noise_std(self, t: Tensor) -> Tensor:
        """sigma, (B,)."""
        return t.float()

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """A sample of q(X_t | X0)."""
        return x0 + _like(t, x0) * noise

    def model_input(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """c_in x_t and c_noise = ln(sigma) / 4."""
        sigma = _like(t, x_t)
        return x_t / (sigma.square() + self.sigma_data**2).sqrt(), 0.25 * t.float().log()

    def x0_from_output(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """c_skip x_t + c_out F."""
        sigma, data = _like(t, x_t), self.sigma_data
        total = sigma.square() + data**2
        return x_t * data**2 / total - output * sigma * data / total.sqrt()

    def training_loss(self, output: Tensor, x0: Tensor, noise: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Error of X0 weighted by (sigma^2 + sigma_data^2) / (sigma sigma_data)^2, one value a sample, (B,)."""
        sigma = t.float().to(x0.device)
        weight = (sigma.square() + self.sigma_data**2) / (sigma * self.sigma_data).square()
        error = self.x0_from_output(output.float(), x_t.float(), t) - x0.float()
        return weight * error.square().flatten(1).mean(1)


def make_schedule(process: Any) -> VPSchedule | VESchedule:
    """The schedule of a ``process`` group of params.yaml (mapping or object)."""
    values = dict(process) if not hasattr(process, "model_dump") else process.model_dump()
    kind = values.pop("kind")
    return {"vp": VPSchedule, "ve": VESchedule}[kind](**values)
