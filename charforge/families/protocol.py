"""What a model family has to answer. Everything outside ``families/`` knows a model through this file alone, and what a
loaded model gives back through ``results.py``.

The conventions, the same for every family whatever its own are:

- **Flow time** t runs from 1 (noise) to 0 (the picture). A *state* is x_t = (1 - t) x0 + t noise, its *velocity*
  dx/dt = noise - x0. A family whose own time runs the other way, or whose model predicts x0, converts inside.
- **States are in units of their noise**: the noise of a state is standard normal. A family that trains with noise of
  standard deviation s divides what leaves it by s and multiplies what comes in. Stochastic steps and their
  log-probabilities (charforge/flow.py) are then the same for all.
- **States are (rows, tokens, values)**: a family without an autoencoder cuts pixels into patches.
- **Pixels** are (n, 3, H, W) in [-1, 1].
- **A sample** is a tuple of parts in the order in which the model reads them (charforge/sample.py). Parts are the
  family's own; only their number of supervised tokens is asked, and a :class:`~charforge.sample.Target` is known as the
  picture to draw.
- **A conditioning** is what the model made of everything before a picture or a reply. It is opaque: its rows can be
  counted and picked, and it is never changed. What guidance needs beside it (the same without text, without pictures)
  the family makes itself.
- **The adapter** acts wherever it is switched on in ``network`` (charforge/adapter). Passes run inside
  :meth:`UnifiedModel.autocast`, which the caller enters, so that a loop enters it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor, nn
    from torch._subclasses.fake_tensor import FakeTensorMode

    from charforge.families.results import Canvas, Conditioning, Denoiser, DrawingStep, Looked, ReplyStep, Speaking
    from charforge.families.work import Flops, Tokens
    from charforge.low_rank import Addition
    from charforge.sample import Noise, Part, Picture, Sample, Target

Role = Literal["text", "picture"]
"""What a part of the adapter serves: reading and speaking, or drawing. The two have learning rates of their own, and
the second stage trains ``picture`` alone."""


@dataclass(frozen=True)
class BaseFiles:
    """The files of one base. ``additions`` are low-rank changes that are added to ``weights`` on loading.

    ``autoencoder`` is None for a family that draws pixels.
    """

    name: str
    config_folder: Path
    weights: tuple[Path, ...]
    autoencoder: Path | None
    tokenizer: Path
    additions: tuple[Path, ...] = ()

    @property
    def identity(self) -> tuple[Path, ...]:
        """The files whose hashes identify the base, in order."""
        drawing = () if self.autoencoder is None else (self.autoencoder,)
        return (*self.weights, *self.additions, *drawing)


class Shapes(Protocol):
    """A base as far as it is known without its weights. Building one loads no torch."""

    @property
    def layers(self) -> int:
        """Decoder layers."""

    @property
    def context_tokens(self) -> int:
        """How many tokens it can read at once."""

    @property
    def drawing_size(self) -> tuple[int, int]:
        """Width and height in pixels of what is drawn unless asked otherwise."""

    @property
    def drawing_settings(self) -> dict[str, Any]:
        """How pictures are drawn unless asked otherwise, by the family's own names: steps, guidance, size. Plain JSON
        values."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """What the decoder can be held in: of bf16, int8, nf4."""

    def with_picture_sizes(
        self, longest: int | None, shortest: int | None, side: int | None, steps: int | None
    ) -> Self:
        """The same with other sizes of training pictures and drawings, and so many sampling steps; None: as it is.

        Raises InputError for a size that the base cannot draw.
        """

    def adapter_pattern(self, first_layer: int, roles: Sequence[Role]) -> str:
        """A regular expression that matches, in full, the names of the linears that carry the adapter.

        Those of the role text carry it from ``first_layer`` on, those of the role picture in all layers.
        """

    def adapter_linears(self, first_layer: int) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) by name of all linears that :meth:`adapter_pattern` matches for both roles."""

    def role_of(self, name: str) -> Role:
        """Whose a linear or a parameter of this name is."""

    def target_tokens(self, width: int, height: int) -> int:
        """Tokens of a training picture of this size, as it is scaled for training."""

    def look_tokens(self, width: int, height: int) -> int:
        """Tokens that reading a picture of this size takes."""

    @property
    def drawing_tokens(self) -> int:
        """Tokens of what is drawn, without :attr:`picture_marks`."""

    @property
    def text_marks(self) -> int:
        """Tokens that stand around a text."""

    @property
    def picture_marks(self) -> int:
        """Tokens that stand around a picture to draw."""

    @property
    def largest_side(self) -> int:
        """The largest side in pixels of a training picture and a drawing."""

    @property
    def side_step(self) -> int:
        """Sides of drawings are multiples of so many pixels."""

    def shallow(self, layers: int) -> Self:
        """The same widths with so many layers, of which the same ones draw."""

    @property
    def period(self) -> int:
        """After how many layers the pattern of layers repeats: 1 where all are alike."""

    def pass_flops(self, tokens: Tokens, rank: int) -> Flops:
        """What one forward pass with an adapter of ``rank`` computes."""


OwnConditioning = Any
OwnCanvas = Any
OwnShapes = Any
"""What the very family has returned before: another's means nothing to it."""


Adapt = Callable[["nn.Module"], Mapping[str, "nn.Parameter"]]
"""Puts a fresh adapter into a network and returns its parameters by name."""
MergedPrecision = Literal["bf16", "fp8"]
"""fp8: the decoder's linears as e4m3 with one scale a matrix, everything else as bf16."""


class UnifiedModel(Protocol):
    """A loaded model that reads, speaks and draws.

    ``network`` holds the weights and, where there is one, the adapter.
    """

    @property
    def shapes(self) -> Shapes: ...
    @property
    def network(self) -> nn.Module: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision in which passes run."""

    # what depends on the machine and not on the result

    recompute_layers: bool
    """Activations of each layer are computed again in the backward pass instead of kept."""

    def use_picture_sizes(self, longest: int | None, shortest: int | None, side: int | None, steps: int | None) -> None:
        """From now on :meth:`Shapes.with_picture_sizes`."""

    def park_encoders(self) -> None:
        """What encodes and decodes pictures waits on the CPU until it is needed."""

    def use_cuda_graphs(self, on: bool) -> None:
        """Whether steps of decoding and drawing are recorded and run again, on a CUDA card (``charforge.graphs``)."""

    def compile_layers(self, backend: str = "inductor") -> None:
        """Have the layers compiled when they are next used; once for all of them and for all lengths."""

    def pack_for_use(self) -> None:
        """Make whatever copies of the weights let it speak and draw faster; it is not trained after this."""

    # samples

    def text(self, text: str, role: str | None = None, loss: bool = False) -> Part:
        """What ``role`` (system, user, assistant; None: nobody) says; with ``loss`` it is learned."""

    def pieces(self, part: Part, tokens: int) -> Sequence[Part]:
        """A part that is not learned, in pieces of about so many tokens: :meth:`read` one after the other they are the
        same to the model. Itself where it cannot be cut."""

    def look(self, image: Image.Image) -> Part:
        """A picture to read, with all that is frozen computed."""

    def prepare_picture(self, image: Image.Image) -> Picture:
        """A picture of the character for both: to draw and to read."""

    def picture_tensors(self, picture: Picture) -> dict[str, Tensor]:
        """A prepared picture as named tensors, for a file."""

    def picture_from(self, tensors: Mapping[str, Tensor]) -> Picture:
        """The inverse of :meth:`picture_tensors`."""

    @property
    def preparation(self) -> str:
        """Settings of this base that decide what :meth:`prepare_picture` makes of a file."""

    @property
    def drawing(self) -> str:
        """Settings of this base that decide what :meth:`draw` makes of a prompt and a seed."""

    def look_at(self, pixels: Tensor) -> Looked:
        """Pixels (n, 3, H, W) as this model sees them: rounded to bytes as in a file, and looked at once."""

    def without_prompt(self, sample: Sample) -> Sample:
        """What guidance learns from: the picture to draw with its prompt dropped."""

    def read_frozen_layers(self, samples: Sequence[Sample], layers: int) -> list[Sample]:
        """The samples with what their first ``layers`` layers, which carry no adapter, make of their texts."""

    # learning

    def text_loss(self, samples: Sequence[Sample], chunk: int = 1024) -> tuple[Tensor, int]:
        """Cross-entropy summed over supervised tokens, and their number; logits of ``chunk`` tokens exist at a time."""

    def picture_loss(self, samples: Sequence[Sample], noise: Noise, prompt_gradients: bool) -> tuple[Tensor, int]:
        """Squared error of the prediction summed over the tokens of the targets (a mean over values), and their number.

        Without ``prompt_gradients`` what stands before the picture is read without gradients, once for all repeats.
        """

    def log_likelihoods(self, rows: Sequence[Sample], after: OwnConditioning | None = None) -> list[Tensor]:
        """Log-likelihood in nats of each supervised token (tokens,) of each row, read ``after`` what was read before.

        Of a reply these are the tokens of :meth:`reply_tokens`, its end, and before them those that name the role.
        """

    # reading

    def read(self, rows: Sequence[Sample], after: OwnConditioning | None = None) -> Conditioning:
        """Read what stands in each row; rows have as many parts as each other."""

    # speaking

    def reply_prefix(self) -> int:
        """How many supervised tokens stand before the first word of a reply."""

    def reply_tokens(self, text: str) -> list[int]:
        """The tokens of a reply's words."""

    def reply_logits(self, rows: Sequence[Sample], after: OwnConditioning | None = None) -> Tensor:
        """Logits (rows, vocabulary), fp32, of the first word of the assistant's reply to each row."""

    def reply(
        self, conditioning: OwnConditioning, choose: Callable[[Tensor], Tensor], max_tokens: int
    ) -> Iterator[ReplyStep]:
        """The assistant's turn token by token. ``choose`` maps logits (rows, vocabulary) to token ids (rows,), on any
        device."""

    def speaking(self) -> Speaking:
        """Nobody yet; rows join it. A row alone says, to the bit, what :meth:`reply` says."""

    def ends(self, token: int) -> bool:
        """Whether this token ends a reply."""

    def words(self, tokens: Sequence[int]) -> str:
        """Token ids as text."""

    # drawing

    def canvas(self, side: int | None = None) -> Canvas:
        """That of :attr:`Shapes.drawing_size`, or a square of ``side`` pixels.

        Raises InputError for a side that the base cannot draw.
        """

    def times(self, steps: int, shift: float) -> Tensor:
        """``steps`` + 1 times from 1 to 0, denser where ``shift`` moves them."""

    def denoiser(self, conditioning: OwnConditioning, canvas: OwnCanvas) -> Denoiser:
        """For steps of one's own, without guidance."""

    def draw(
        self,
        conditioning: OwnConditioning,
        noise: Tensor,
        canvas: OwnCanvas,
        *,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """States at t = 0 (rows, tokens, values), with the base's own sampling settings unless given; ``guidance`` 1
        is none, and a given one acts at all times.
        """

    def draw_steps(
        self, conditioning: OwnConditioning, noise: Tensor, canvas: OwnCanvas, *, steps: int | None = None,
        guidance: float | None = None,
    ) -> Iterator[DrawingStep]:  # fmt: skip
        """The steps of :meth:`draw`, each when it is asked for. What acts when the first is asked for acts in all."""

    def target(self, state: Tensor, canvas: OwnCanvas) -> Target:
        """A drawn state (tokens, values) as something to learn to draw."""

    def drawn_target(self, x0: Tensor, rows: int, columns: int) -> Target:
        """Stored tokens (rows * columns, values) of a target as :class:`~charforge.sample.Target`."""

    def decode(self, states: Tensor, canvas: OwnCanvas) -> Tensor:
        """Drawn states (n, tokens, values) -> pixels (n, 3, H, W) of the canvas."""

    def decode_target(self, target: Target) -> Tensor:
        """A target as the model draws it at best: pixels (3, H, W)."""


@dataclass(frozen=True)
class StandIn:
    """A model of shapes: real layers, weights without memory. Sizes in bytes; ``adapter`` of its fp32 masters."""

    model: UnifiedModel
    weights: int
    """All but ``encoders``."""
    encoders: int
    """What encodes and decodes pictures."""
    adapter: int


class Family(Protocol):
    """The door to a family: what can be asked before a model is loaded."""

    @property
    def name(self) -> str: ...

    def recognises(self, folder: Path) -> bool:
        """Whether the configuration files of ``folder`` are of this family."""

    def read_shapes(self, folder: Path) -> Shapes:
        """Raises InputError for files that are missing or wrong."""

    def published(self, name: str) -> Shapes | None:
        """The shapes of a base that is known by name before it is here."""

    def files(self, name: str, folder: Path) -> BaseFiles:
        """The files of ``folder``, by their names alone. Raises InputError naming the one that is missing."""

    def check(self, files: BaseFiles) -> None:
        """Hold the headers of the files against the shapes. Raises InputError naming what is missing or wrong."""

    def load(
        self, files: BaseFiles, dtype: torch.dtype, device: str, quantize: str | None, int8_threshold: float,
        report: Callable[[int, int], None],
    ) -> UnifiedModel:  # fmt: skip
        """Stream the weights to ``device``, quantised on the way; frozen, in evaluation mode."""

    def merge(
        self, files: BaseFiles, additions: Mapping[str, Addition], folder: Path, precision: MergedPrecision,
        report: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        """Write the base with ``additions`` (by linear) in its weights into ``folder``, in the layout in which the base
        is published. Tensors pass one at a time: the whole is never in memory. ``report(bytes done, in all)``.

        Raises InputError for a base that has no published layout, and for additions that do not fit it.
        """

    # what a run costs and how fast a machine is, without weights

    def for_measuring(self, name: str) -> Shapes | None:
        """Shapes that can be measured by name: published ones, and small ones for a processor."""

    def stand_in(
        self, shapes: OwnShapes, precision: str | None, adapt: Adapt, dtype: torch.dtype, fake: FakeTensorMode
    ) -> StandIn:
        """A model of ``shapes`` in which ``adapt`` has put an adapter; nothing of it takes memory."""

    def as_on_a_gpu(self) -> AbstractContextManager[None]:
        """Inside the block a CPU takes the ways through the code that a GPU takes: to predict its memory."""

    def weight_bytes(self, shapes: OwnShapes, precision: str, dtype: torch.dtype) -> int:
        """Bytes of a base of ``shapes`` in ``precision`` (bf16, int8, nf4), encoders included."""

    def random_model(
        self, shapes: OwnShapes, precision: str, dtype: torch.dtype, device: str, report: Callable[[int, int], None],
        seed: int = 0,
    ) -> UnifiedModel:  # fmt: skip
        """A model of random weights on ``device``; ``report(done, of)`` counts parts."""

    def write_random_base(self, shapes: OwnShapes, folder: Path, report: Callable[[int, int], None]) -> None:
        """A base of random weights as files, which :meth:`load` reads; ``report(bytes done, in all)`` counts."""

    def random_text(
        self, shapes: OwnShapes, tokens: int, generator: torch.Generator | None, loss: bool = False
    ) -> Part:
        """A text of so many tokens, drawn from ``generator``; without one all are the same."""

    def random_target(self, shapes: OwnShapes, tokens: int, generator: torch.Generator | None) -> Target:
        """A picture to draw of so many tokens; without a generator it is all zeros."""
