"""The task class that connects items, templates and context to lm-evaluation-harness."""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, get_args

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask

from eicap_tasks import context, items, metrics, options
from eicap_tasks.documents import Document, documents
from eicap_tasks.errors import EicapError, exit_without_traceback
from eicap_tasks.examples import check_count, examples
from eicap_tasks.prompts import Part, render
from eicap_tasks.vocabulary import LANGUAGES

logger = logging.getLogger(__name__)

if "lm_eval._cli.run" in sys.modules:  # the process is lm-eval's command line
    exit_without_traceback()


class EicapTask(ConfigurableTask):  # type: ignore[misc]
    """One layer in one language, asked with letters and scored by log-likelihood.

    The YAML names the layer and language under `dataset_kwargs` and the instruction under
    `description`; options of a run come from the key `eicap` of the metadata.
    """

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
        self._tried: tuple[context.ChatTemplate, bool] | None = None
        # Any string here keeps lm-eval from looking every metric up in its registry or on the hub.
        settings["process_results"] = f"{__name__}.process_results"
        super().__init__(config=settings, **kwargs)

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Load the items: the shipped ones, or the user's. Few-shot examples are always shipped ones."""
        lang, layer = self.config.dataset_kwargs["lang"], self.config.dataset_kwargs["layer"]
        path = self.options.data or items.shipped("test", lang)
        dialogues = items.load(path)
        test = documents(dialogues, lang, layer)
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
        self.dataset = {"test": Dataset.from_list(test), "dev": Dataset.from_list(examples(test, lang, layer))}

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
        system = "\n\n".join(
            text.strip() for text in (system_instruction, self.config.description) if text and text.strip()
        )
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
        if not self._keeps_system(chat_template):
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
        """Build the requests, under a cache key that holds all that the prompts depend on.

        lm-eval's own key for `--cache_requests` has neither prompts nor items in it, so that a changed
        item or another `--samples` list would be answered with old prompts (seen in 0.4.13).
        """
        if kwargs.get("cache_requests"):
            kwargs["tokenizer_name"] = f"{kwargs.get('tokenizer_name') or ''}-{self._cache_salt(kwargs.get('samples'))}"
        super().build_all_requests(**kwargs)

    def _cache_salt(self, samples: object) -> str:
        """Hash all that the prompts depend on, beside what lm-eval's own key holds."""
        parts: tuple[Part, ...] = get_args(Part)
        docs = [*self.eval_docs, *self.dataset["dev"]]
        config = self.config
        settings = (config.description, config.target_delimiter, config.fewshot_delimiter, config.gen_prefix)
        rendered = [(doc, [render(doc, part) for part in parts]) for doc in docs]
        return hashlib.sha256(repr((rendered, self.options, settings, samples)).encode()).hexdigest()[:16]

    def process_results(self, doc: Document, results: list[Any]) -> dict[str, Any]:
        """Score one document.

        Args:
            doc: The document.
            results: Per option, the log-likelihood of its label (natural log) and whether it was greedy.

        Returns:
            `acc` and `brier_score`; see `eicap_tasks.metrics`.
        """
        if "bypass" in self._metric_fn_list:  # --predict_only
            return {"bypass": 999}
        loglikelihoods = [loglikelihood for loglikelihood, _ in results]
        return {
            "acc": metrics.accuracy(loglikelihoods, doc["gold"]),
            "brier_score": metrics.brier(loglikelihoods, doc["gold"]),
        }
