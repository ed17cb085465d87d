"""The task class that connects items, templates and context to lm-evaluation-harness."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask

from eicap_tasks import context, items, metrics, options
from eicap_tasks.documents import Document
from eicap_tasks.errors import EicapError, exit_without_traceback
from eicap_tasks.examples import check_count, examples
from eicap_tasks.prompts import render
from eicap_tasks.signature import KEY, model_name, short_hash, signature
from eicap_tasks.tokens import warn_if_uneven
from eicap_tasks.views import Format, view
from eicap_tasks.vocabulary import LABELS, LANGUAGES

logger = logging.getLogger(__name__)

if "lm_eval._cli.run" in sys.modules:  # the process is lm-eval's command line
    exit_without_traceback()


class EicapTask(ConfigurableTask):  # type: ignore[misc]
    """One layer in one language, asked with letters and scored by log-likelihood.

    The YAML names the layer and language under `dataset_kwargs` and the instruction under
    `description`; options of a run come from the key `eicap` of the metadata.
    """

    format: Format = "letters"

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Build the task from its YAML.

        Args:
            config: The YAML's content; lm-eval leaves the key `class` in it.
            kwargs: Passed on to lm-eval.

        Raises:
            EicapError: The options or the user's items cannot be used.
        """
        settings = {key: value for key, value in (config or {}).items() if key != "class"}
        self.options = options.parse(settings.get("metadata"))
        if self.format not in ("gen", "cf"):  # these do not compare the likelihoods of labels
            warn_if_uneven(self.options.labels, settings.get("metadata") or {})
        self._tried: tuple[context.ChatTemplate, bool] | None = None
        # Any string here keeps lm-eval from looking every metric up in its registry or on the hub.
        settings["process_results"] = f"{__name__}.process_results"
        super().__init__(config=settings, **kwargs)

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Load the items: the shipped ones, or the user's. Few-shot examples are always shipped ones."""
        lang, layer = self.config.dataset_kwargs["lang"], self.config.dataset_kwargs["layer"]
        path = self.options.data or items.shipped("test", lang)
        dialogues = items.load(path)
        show, labels = self.options.show, LABELS[self.options.labels]
        test = view(dialogues, lang, layer, self.format, show, labels)
        if not test:
            raise EicapError(
                f"{path}: found no probe of the layer {layer!r} in {LANGUAGES[lang]['name']}, which the "
                f"task {self.config.task} asks; expected one or more. Leave the task out, or add items."
            )
        digest = items.digest(dialogues)
        # lm-eval writes the metadata into its result file.
        self.config.metadata = {**(self.config.metadata or {}), "items_sha256": digest}
        if self.options.data:
            logger.warning("%s asks own items: %s, sha256 %s", self.config.task, path.absolute(), digest[:16])
        dev = examples(test, lang, layer, self.format, show, labels)
        self.dataset = {"test": Dataset.from_list(test), "dev": Dataset.from_list(dev)}

    def doc_to_text(self, doc: Document, doc_to_text: object = None) -> str:
        """Return the prompt of a document without instruction, examples and chat template."""
        return render(doc, "text")

    def fewshot_context(
        self,
        doc: Document,
        num_fewshot: int,
        system_instruction: str | None = None,
        apply_chat_template: bool = False,
        fewshot_as_multiturn: bool = False,
        chat_template: Callable[..., Any] | None = None,
        gen_prefix: str | None = None,
    ) -> Any:
        """Assemble the whole prompt of a document.

        Args:
            doc: The document to ask.
            num_fewshot: Number of solved examples before it, from the `dev` split.
            system_instruction: Text that comes before the task's own instruction.
            apply_chat_template: Whether to make chat messages.
            fewshot_as_multiturn: Whether the turns of dialogue and examples are messages of their own.
            chat_template: Renders messages; required for chat messages.
            gen_prefix: Beginning of the answer to put into the model's mouth.

        Returns:
            A string, or what `chat_template` returns.

        Raises:
            EicapError: There are fewer examples than asked for.
        """
        shots = self._shots(num_fewshot)
        instruction = render(doc, "instruction") or self.config.description
        system = "\n\n".join(text.strip() for text in (system_instruction, instruction) if text and text.strip())
        if not (apply_chat_template and chat_template):
            prompt = context.text_prompt(
                doc,
                shots,
                system=system,
                target_delimiter=self.config.target_delimiter,
                fewshot_delimiter=self.config.fewshot_delimiter,
            )
            return f"{prompt} {gen_prefix}" if gen_prefix else prompt
        messages = context.chat_messages(
            doc,
            shots,
            system=system,
            context=self.options.context,
            shots_as_turns=fewshot_as_multiturn,
            fewshot_delimiter=self.config.fewshot_delimiter,
        )
        if self.options.system == "user" or not self._keeps_system(chat_template):
            messages = context.fold_system(messages)
        if gen_prefix:
            messages.append(context.Message(role="assistant", content=gen_prefix))
        return chat_template(messages, add_generation_prompt=not gen_prefix)

    def _keeps_system(self, template: context.ChatTemplate) -> bool:
        """Try a chat template once, not once per document: a backend may log a warning at every refusal."""
        if self._tried is None or self._tried[0] is not template:
            self._tried = (template, context.keeps_system(template))
        return self._tried[1]

    def _shots(self, count: int) -> list[Document]:
        check_count(count, len(self.dataset["dev"]), self.config.task)
        return list(self.sampler.sample(n=count)) if count else []

    def build_all_requests(self, **kwargs: Any) -> None:
        """Build the requests; sign the task, and make lm-eval's cache of requests safe.

        lm-eval's own key for `--cache_requests` has neither prompts nor items in it, so that a changed
        item or another `--samples` list would be answered with old prompts (seen in 0.4.13).
        """
        names = ("system_instruction", "apply_chat_template", "fewshot_as_multiturn", "chat_template")
        prompts = self.prompts(**{name: kwargs[name] for name in names if kwargs.get(name) is not None})
        self.config.metadata |= {KEY: self.signature(prompts, kwargs)}
        if kwargs.get("cache_requests"):
            thinking = self.config.metadata.get("think_end_token")  # see `GeneratedTask.construct_requests`
            how = [repr(kwargs.get("samples")), repr(self.options), sorted(self._metric_fn_list), thinking]
            salt = short_hash([prompts, *how])
            kwargs["tokenizer_name"] = f"{kwargs.get('tokenizer_name') or ''}-{salt}"
        super().build_all_requests(**kwargs)

    def prompts(self, **kwargs: Any) -> list[Any]:
        """Return all that an answer depends on: how it is asked, and per document its id, rendered prompts and labels.

        Args:
            kwargs: As for `fewshot_context`.
        """
        config = self.config
        shots, how = config.num_fewshot or 0, [config.target_delimiter, config.generation_kwargs, config.repeats]
        return how + [
            [doc["id"], doc["labels"], self.fewshot_context(doc, shots, gen_prefix=self.doc_to_prefix(doc), **kwargs)]
            for doc in self.test_docs()
        ]

    def signature(self, prompts: list[Any], run: Mapping[str, Any]) -> str:
        """Return the signature of this task's scores; see `eicap_tasks.signature`.

        Args:
            prompts: What `prompts` returned.
            run: The arguments of `build_all_requests`.
        """
        metadata, chat_template = self.config.metadata, run.get("chat_template")
        shots, count = self.config.num_fewshot or 0, len(self.test_docs())
        read = getattr(getattr(chat_template, "__self__", None), "chat_template", None)  # of the model, if it has one
        template = read(True) if read else None
        kept = self.options.context if run.get("fewshot_as_multiturn") or not shots else "transcript"
        some = run.get("samples") or (run["limit"] if (run.get("limit") or count) < count else None)
        return signature(
            {
                "task": self.config.task,
                "version": metadata.get("version"),
                "items": metadata["items_sha256"][:12],
                "docs": "all" if some is None else f"first-{some}" if isinstance(some, int) else short_hash(list(some)),
                "prompts": short_hash(prompts),
                "lang": self.config.dataset_kwargs["lang"],
                "format": self.format,
                "context": kept if chat_template else "text",
                "show": self.options.show,
                "labels": "none" if self.format == "cf" else self.options.labels,
                "shots": shots,
                "chat": short_hash(template) if template else "unknown" if chat_template else "none",
                "model": model_name(metadata),
            }
        )

    def process_results(self, doc: Document, results: list[Any]) -> dict[str, Any]:
        """Score one document for lm-eval; with `--predict_only` there is nothing to score."""
        return {"bypass": 999} if "bypass" in self._metric_fn_list else self.scores(doc, results)

    def scores(self, doc: Document, results: list[Any]) -> dict[str, Any]:
        """Score one document.

        Args:
            doc: The document.
            results: Per option, the log-likelihood of its label (natural log) and whether it was greedy.

        Returns:
            `acc` and `brier_score`; see `eicap_tasks.metrics`.
        """
        loglikelihoods = [loglikelihood for loglikelihood, _ in results]
        return {
            "acc": metrics.accuracy(loglikelihoods, doc["gold"]),
            "brier_score": metrics.brier(loglikelihoods, doc["gold"]),
        }
