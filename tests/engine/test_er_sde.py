"""The solver of our own: its step by the equation that it solves, and what it makes of data that are known exactly."""

from __future__ import annotations

import math

import pytest
import torch

from invokeai_daemon.engine.scheduling.er_sde import ERSDEScheduler, noise_scale
from tests.engine.build import NOISE


def phi(sigma: float) -> float:
    return sigma * (math.exp(sigma**0.3) + 10)


def solved(start: float, now: float, then: float, end: tuple[float, float]) -> float:
    """dx/dσ = φ'/φ · (x − x₀(σ)) from one noise level to another, in many small steps; x₀ is linear."""
    count = 20_000
    width, x, sigma = (then - now) / count, start, now

    def slope(sigma: float, x: float) -> float:
        rate = (math.log(phi(sigma * 1.0001)) - math.log(phi(sigma * 0.9999))) / (0.0002 * sigma)
        return rate * (x - end[0] - end[1] * sigma)

    for _ in range(count):
        middle = x + width / 2 * slope(sigma, x)
        x, sigma = x + width * slope(sigma + width / 2, middle), sigma + width
    return x


def test_the_scale_of_noise_is_that_of_the_paper() -> None:
    for sigma in (0.03, 1.0, 14.6):
        assert float(noise_scale(torch.tensor(sigma, dtype=torch.float64))) == pytest.approx(phi(sigma))


@pytest.mark.parametrize("place", [2, 5, 8])
def test_a_step_solves_the_equation_where_the_expected_end_is_linear(place: int) -> None:
    scheduler = ERSDEScheduler(**NOISE)
    scheduler.set_timesteps(10)
    levels = [float(sigma) for sigma in scheduler.sigmas]
    end, count = (0.7, -0.3), 400_000
    generator = torch.Generator("cpu").manual_seed(1)
    for index in range(place + 1):
        start = torch.full((1, 1, count), 2.0)
        scheduler.scale_model_input(start, scheduler.timesteps[index])
        noise = (start - end[0] - end[1] * levels[index]) / levels[index]
        moved, _ = scheduler.step(noise, scheduler.timesteps[index], start, generator=generator, return_dict=False)
    now, then = levels[place], levels[place + 1]
    fresh = math.sqrt(then**2 - now**2 * (phi(then) / phi(now)) ** 2)
    assert float(moved.mean()) == pytest.approx(solved(2.0, now, then, end), abs=5 * fresh / math.sqrt(count) + 1e-4)
    assert float(moved.std()) == pytest.approx(fresh, rel=0.01)


@pytest.mark.parametrize("spread", [0.5, 1.0])
def test_data_of_one_spread_come_out_with_that_spread(spread: float) -> None:
    away = []
    for steps in (10, 20, 40):
        scheduler = ERSDEScheduler(**NOISE)
        scheduler.set_timesteps(steps)
        generator = torch.Generator("cpu").manual_seed(1)
        latents = torch.randn(1, 1, 100_000, generator=generator) * math.hypot(float(scheduler.sigmas[0]), spread)
        for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
            scheduler.scale_model_input(latents, timestep)
            noise = latents * sigma / (spread**2 + sigma**2)
            latents = scheduler.step(noise, timestep, latents, generator=generator, return_dict=False)[0]
        away.append(abs(float(latents.std()) / spread - 1))
    assert away[0] < 0.06
    assert away[2] < 0.025


def test_the_last_step_ends_in_what_is_expected() -> None:
    scheduler = ERSDEScheduler(**NOISE)
    scheduler.set_timesteps(1)
    latents = torch.randn(1, 4, 8, 8) * 14
    scheduler.scale_model_input(latents, scheduler.timesteps[0])
    moved, end = scheduler.step(torch.randn(1, 4, 8, 8), scheduler.timesteps[0], latents, return_dict=False)
    assert torch.equal(moved, end)
