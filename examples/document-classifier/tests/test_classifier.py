"""python -m unittest discover -s tests -t . — needs nothing but Python."""

from __future__ import annotations

import unittest

from classifier import Document, Model, Prediction, load, train
from classifier.tokens import features, tokens

MODEL = train(load("train"))


class HeldOut(unittest.TestCase):
    """Documents that training never saw."""

    predictions: list[tuple[Document, Prediction]]

    @classmethod
    def setUpClass(cls) -> None:
        cls.predictions = [(document, MODEL.predict(document.text)) for document in load("heldout")]

    def test_nine_in_ten_are_recognised(self) -> None:
        wrong = [
            f"{document.label} taken for {prediction.label}: {document.text[:60]}"
            for document, prediction in self.predictions
            if prediction.label != document.label
        ]
        accuracy = 1 - len(wrong) / len(self.predictions)
        self.assertGreaterEqual(accuracy, 0.9, "\n".join(wrong))

    def test_the_confidence_is_about_as_high_as_the_accuracy(self) -> None:
        right = [prediction.label == document.label for document, prediction in self.predictions]
        sure = [prediction.confidence for _, prediction in self.predictions]
        gap = abs(sum(right) / len(right) - sum(sure) / len(sure))
        self.assertLess(gap, 0.15)

    def test_no_held_out_document_is_in_the_training_set(self) -> None:
        seen = {document.text for document in load("train")}
        self.assertFalse([item for item in load("heldout") if item.text in seen])


class Behaviour(unittest.TestCase):
    def test_probabilities_are_ranked_and_sum_to_one(self) -> None:
        found = MODEL.predict("Please pay the total of 20.00 EUR").probabilities
        self.assertAlmostEqual(sum(found.values()), 1.0)
        self.assertEqual(list(found.values()), sorted(found.values(), reverse=True))
        self.assertEqual(set(found), {document.label for document in load("train")})

    def test_a_text_of_unknown_words_gets_no_confidence(self) -> None:
        prediction = MODEL.predict("日本語 ქართული")
        self.assertEqual(prediction.coverage, 0.0)
        self.assertLess(prediction.confidence, 0.2)

    def test_explanations_name_the_telling_words_and_their_side(self) -> None:
        text = "Preheat the oven and bake until golden; the invoice follows."
        weights = {item.feature: item.weight for item in MODEL.explain(text, "recipe", 50)}
        self.assertGreater(weights["oven"], 0)
        self.assertGreater(weights["bake"], 0)
        self.assertLess(weights["invoice"], 0)
        with self.assertRaises(KeyError):
            MODEL.explain(text, "poem")

    def test_one_class_alone_is_refused(self) -> None:
        with self.assertRaises(ValueError):
            Model([Document("only", "text")])


class Tokens(unittest.TestCase):
    def test_words_of_any_script_are_kept_whole(self) -> None:
        self.assertEqual(
            tokens("Straße, naïve d’accord ΑΘΗΝΑ Привет"),
            ["strasse", "naïve", "d’accord", "αθηνα", "привет"],
        )

    def test_composed_and_decomposed_letters_are_the_same(self) -> None:
        self.assertEqual(tokens("Cafe\u0301"), tokens("Caf\u00e9"))

    def test_numbers_become_their_shape(self) -> None:
        self.assertEqual(
            tokens("1.500,00 € on 2024 at 18:05, 3 × 7"),
            ["<price>", "€", "on", "<year>", "at", "<time>", "<number>", "<number>"],
        )

    def test_repetition_counts_less_and_less(self) -> None:
        self.assertLess(features("pay " * 10)["pay"], 4)


if __name__ == "__main__":
    unittest.main()
