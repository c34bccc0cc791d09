"""The judges of the published reward: BLIP-VQA, CLIP ViT-L/14, LPIPS and DINOv2 (unicharacter.md 4.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charforge.errors import MachineError
from charforge.expand.scenes import Scene
from charforge.judges import published
from charforge.judges.encoders import Encoder, TextMatcher, load_text_matcher
from charforge.judges.likeness import References, nearest_similarity
from charforge.pixels import to_image

BLIP, CLIP = "Salesforce/blip-vqa-base", "ViT-L-14-quickgelu/openai"


@dataclass(frozen=True)
class PublishedJudges:
    """``answer`` maps pictures and a question each to words; ``distance`` is LPIPS of (n, 3, H, W) twice -> (n,)."""

    answer: Callable[[Tensor, list[str]], list[str]]
    matcher: TextMatcher
    distance: Callable[[Tensor, Tensor], Tensor]

    def parts(
        self, encoder: Encoder, references: References, pictures: Tensor, scenes: Sequence[Scene], size: int
    ) -> dict[str, Tensor]:
        """The four parts, each already multiplied by its weight: their sum is the published reward."""
        rows = [(row, check) for row, scene in enumerate(scenes) for check in scene.checks]
        said = self.answer(pictures[[row for row, _ in rows]], [check.question for _, check in rows])
        vqa = torch.tensor(
            [
                published.vqa_score(
                    [answer for answer, (owner, _) in zip(said, rows, strict=True) if owner == row],
                    ["yes" if check.answer else "no" for check in scene.checks],
                    [1.0] * len(scene.checks),
                )
                for row, scene in enumerate(scenes)
            ]
        )
        clip = published.clip_score(self.matcher.similarity(pictures, [scene.prompt for scene in scenes])).cpu()
        distances = torch.stack([self._distances(group) for group in pictures.split(size)]).cpu()
        nearest = nearest_similarity(encoder.encode(pictures).cpu(), references)
        parts = {
            "vqa": vqa,
            "clip": clip,
            "diversity": published.group_diversity(distances),
            "penalty": published.penalty(nearest),
        }
        return {name: published.WEIGHTS[name] * part for name, part in parts.items()}

    def _distances(self, group: Tensor) -> Tensor:
        count = len(group)
        first, second = torch.triu_indices(count, count, 1)
        between = self.distance(group[first], group[second])
        matrix = torch.zeros(count, count, device=between.device)
        matrix[first, second] = between
        return matrix + matrix.T


def load_published_judges(device: torch.device, blip: str = BLIP, clip: str = CLIP) -> PublishedJudges:
    """Raises MachineError naming what is missing."""
    return PublishedJudges(_blip(blip, device), load_text_matcher(clip, device), _lpips(device))


def _blip(where: str, device: torch.device) -> Callable[[Tensor, list[str]], list[str]]:
    from transformers import BlipForQuestionAnswering, BlipProcessor

    try:
        processor = BlipProcessor.from_pretrained(where)
        model = BlipForQuestionAnswering.from_pretrained(where).eval()
    except (OSError, ValueError) as error:
        raise MachineError(
            f"BLIP-VQA cannot be loaded from {where!r} ({str(error).splitlines()[0]}): connect to the hub once, or set "
            "reward.published = false"
        ) from error

    model.to(device)  # type: ignore[arg-type]

    @torch.no_grad()
    def answer(pictures: Tensor, questions: list[str]) -> list[str]:
        shown = [to_image(picture) for picture in pictures]
        inputs = processor(images=shown, text=questions, return_tensors="pt", padding=True).to(device)
        return [text.strip() for text in processor.batch_decode(model.generate(**inputs, max_length=50), True)]

    return answer


def _lpips(device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    try:
        import lpips
    except Exception as error:  # lpips needs torchvision, which fails in many ways
        raise MachineError(
            f"the published diversity needs lpips ({error}): pip install lpips, or set reward.published = false"
        ) from error
    model = lpips.LPIPS(net="alex", verbose=False).to(device).eval()

    @torch.no_grad()
    def distance(first: Tensor, second: Tensor) -> Tensor:
        return model(first.to(device), second.to(device)).flatten()

    return distance
