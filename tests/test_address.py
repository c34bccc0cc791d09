"""``{{user}}`` in the words of cards: a part of its sentence, or only called."""

from __future__ import annotations

import pytest

from charforge.character.cards.macros import resolved


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("{{user}}'s hat", "Your hat"),
        ("It is {{user}}’s hat.", "It is your hat."),
        ("{{user}} is late and {{user}} has a hat", "You are late and you have a hat"),
        ("She says that {{user}} likes tea. {{user}} always watches.", "She says that you like tea. You always watch."),
        ("{{char}} tells {{user}} things as {{user}} wasn't there", "Pip tells you things as you weren't there"),
        ("{{user}}, a young apprentice, lives here.", "You, a young apprentice, live here."),
        ("{{user}}, who is late, runs.", "You, who are late, run."),
        ("{{roll:d6}} {{roll:20}}", "3 10"),
    ],
)
def test_sentences_about_the_user_become_sentences_to_the_user(said: str, expected: str) -> None:
    assert resolved(said, "Pip", "you", set()) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Tea, {{user}}, is not had.", "Tea is not had."),
        ("I *fold*, {{user}}.", "I *fold*."),
        ("Good morning, {{user}}. I like {{user}}, {{user}}!", "Good morning. I like you!"),
        ("{{user}}, come here", "Come here"),
        ("{{user}}, come here.", "Come here."),
        ("Hello {{user}}!", "Hello!"),
        ("*waves* Hello, {{user}}!", "*waves* Hello!"),
        ("\"You're late, {{user}}. It is {{user}}'s turn.\"", '"You\'re late. It is your turn."'),
        ("Yes, {{user}}, I know.", "Yes, I know."),
        ("Well, {{user}}, is that a hat?", "Well, is that a hat?"),
        ("That, {{user}}, was close.", "That was close."),
        ("You are, {{user}}, late.", "You are late."),
        ("But {{user}}, I love you!", "But I love you!"),
        ("Oh {{user}}... come.", "Oh... come."),
        ("Yes, Master {{user}}.", "Yes, Master."),
        ("My dear {{user}}, sit.", "My dear, sit."),
        ("{{user}}-kun, wait!", "Wait!"),
        ("I like {{user}}-san.", "I like you."),
        ("Come, {{user}}, and sit.", "Come, and sit."),
        ("Listen, {{user}}: tea is over.", "Listen: tea is over."),
        ("Wait, {{user}} — the kettle!", "Wait — the kettle!"),
        ("Wait, {{user}}...", "Wait..."),
        ("Drink, {{user}} *pours tea*", "Drink *pours tea*"),
        ('"Come, {{user}}," she says.', '"Come," she says.'),
        ("*nods* {{user}}, the tea is ready.", "*nods* The tea is ready."),
        ('She says "{{user}}, the tea is ready."', 'She says "The tea is ready."'),
        ("{{user}}, a young apprentice, lives with Pip.", "You, a young apprentice, live with Pip."),
        ("{{user}}, who is late, runs.", "You, who are late, run."),
        ("Tell me, {{user}}, who is it?", "Tell me, who is it?"),
        ("Pip, {{user}}, and Bolt go out.", "Pip, you, and Bolt go out."),
        ("With Mox, {{user}}, and Bolt.", "With Mox, you, and Bolt."),
        ("She loves tea, rain, {{user}}, and fog.", "She loves tea, rain, you, and fog."),
        ("Likes: tea, {{user}}, rain", "Likes: tea, you, rain"),
        ("Likes: tea, {{user}}", "Likes: tea, you"),
        ("Pip lives with her brother, {{user}}, in a tower.", "Pip lives with her brother, you, in a tower."),
        ("Pip adores her best friend, {{user}}.", "Pip adores her best friend, you."),
        ("When Pip is home, {{user}} is too.", "When Pip is home, you are too."),
        ("When Pip naps, {{user}} reads.", "When Pip naps, you read."),
        ("Nice hat, {{user}}'s hat.", "Nice hat, your hat."),
        ("{{user}}! There you are.", "You! There you are."),
        ("I know {{user}}.", "I know you."),
        ("Do you like tea, {{user}}?", "Do you like tea?"),
        ("What, {{user}}, is this?", "What, is this?"),
        ("{{user}}, {{user}}, {{user}}!", "You!"),
        ("{{user}}", "You"),
        ("{{user}},", "You,"),
        ("Thank you, {{user}}. {{user}}, sit.", "Thank you. Sit."),
        ("He asked (to {{user}}, softly) for tea.", "He asked (to you, softly) for tea."),
        ("I saw you and {{user}}, too.", "I saw you and you, too."),
        ("I gave it to {{user}}, apprentice.", "I gave it to you, apprentice."),
        ("(whispers) {{user}}, run.", "(whispers) Run."),
        ("Not now, {{user}}; later, {{user}}~", "Not now; later~"),
        ("Between us, {{user}}, I, Pip, snore.", "Between us, I, Pip, snore."),
        ("Sleep well, {{user}}, my friend.", "Sleep well, my friend."),
        ("Once, {{user}}, I sailed.", "Once, I sailed."),
        ("早上好，{{user}}。", "早上好。"),
        ("I am, {{user}}, a robot.", "I am a robot."),
        ("Who, me, {{user}}?", "Who, me?"),
        ("No {{user}} allowed.", "No you allowed."),
        ("And now, {{user}}, tea.", "And now, tea."),
        ("It's for you, {{user}}, not Bolt.", "It's for you, not Bolt."),
        ("If {{user}}, my friend, is late, I wait.", "If you, my friend, are late, I wait."),
        ("Line one, {{user}}\nline two\n{{user}}, sit", "Line one\nline two\nSit"),
    ],
)
def test_a_user_who_is_only_called_is_left_out_with_the_comma(said: str, expected: str) -> None:
    assert resolved(said, "Pip", "you", set()) == expected
