"""What is said in the sample sessions."""

from __future__ import annotations

import random
from datetime import timedelta

from .samples import Filling, Said

_TRACE = """Traceback (most recent call last):
  File "shop/payments.py", line 88, in refund
    answer = await bank.reverse(payment.reference, amount)
  File "shop/bank.py", line 41, in reverse
    raise PaymentError(f"reference {reference} is older than 180 days")
shop.bank.PaymentError: reference 7731-A is older than 180 days"""

_ORDER = {
    "order": "4711",
    "status": "delivered",
    "items": [{"sku": "KB-87", "name": "Keyboard, 87 keys", "price": 89.0}],
    "paid_by": "card",
    "reference": "7731-A",
}

_TABLE = """Here is what fits your desk:

| keyboard | keys | switches | price |
|---|---|---|---|
| **KB-87** | 87 | tactile | $89 |
| KB-104 | 104 | linear | $99 |
| KB-60 | 60 | silent | $74 |

For an office I would take the **KB-60**: it is the quietest. Say *order KB-60* and I prepare it."""

_CODE = """You can ask for it from a script, too:

```python
import httpx

answer = httpx.get("https://shop.example/api/orders/4711")
print(answer.json()["status"])
```

Keys are made under *Account → API*. Each has its own limit of 60 requests a minute."""

REFUND = (
    Said(
        "My keyboard of order 4711 has a broken key. Can I send it back?",
        "I am sorry to hear that. Order **4711** was delivered, and is still within its guarantee. "
        "You can have a new one, or your money back. Which do you prefer?",
        calls=[("find_order", {"order": "4711"}, _ORDER)],
        thought="The customer names an order. I look it up before I promise anything.",
        state={"order": "4711", "wish": "open"},
        rated=(5, "Asked before it acted."),
    ),
    Said(
        "My money back, please.",
        "",
        calls=[
            ("check_policy", {"sku": "KB-87", "reason": "defect"}, {"refund": True, "days_left": 41}),
            ("refund", {"order": "4711", "amount": 89.0, "to": "card"}, None),
        ],
        state={"wish": "refund"},
        error={
            "type": "PaymentError",
            "message": "The bank refused: reference 7731-A is older than 180 days.",
            "traceback": _TRACE,
        },
        rated=(1, "The refund failed and nobody told the customer."),
    ),
    Said(
        "Hello? Did it work?",
        "Not yet: the card payment is too old to be reversed by the bank. I can send the **$89.00** to a bank account "
        "instead. It takes two days.",
        calls=[("find_refund", {"order": "4711"}, {"refunds": [{"state": "refused", "code": "too-old"}]})],
        thought="The refund of the card failed because the payment is older than 180 days. A transfer is possible.",
        state={"refund": {"state": "refused", "by": "bank"}},
        rated=(4, "Explains it, and offers a way out."),
    ),
    Said(
        "Then do that. My IBAN is on file.",
        "Done. You receive **$89.00** by 2 December. The number of the transfer is `T-20931`.\n\n"
        "- No need to send the keyboard back.\n- The guarantee of order 4711 ends with this.",
        calls=[
            ("transfer", {"order": "4711", "amount": 89.0}, {"transfer": "T-20931", "arrives": "2026-12-02"}),
        ],
        state={"wish": "done", "refund": {"state": "sent", "by": "transfer", "number": "T-20931"}},
    ),
)

_TALKS: tuple[tuple[str, str, tuple[Said, ...]], ...] = (
    (
        "Which keyboard for an office",
        "sales",
        (
            Said("Which of your keyboards is the quietest? It is for an office.", _TABLE),
            Said(
                "order KB-60",
                "It is in your basket: **KB-60**, $74, at your door on Thursday.",
                calls=[("add_to_basket", {"sku": "KB-60", "count": 1}, {"basket": 1, "total": 74.0})],
                state={"basket": ["KB-60"]},
            ),
        ),
    ),
    (
        "Where is my parcel",
        "support",
        (
            Said(
                "Where is my parcel? It should have come on Tuesday.",
                "It left our house on Monday and is **with the carrier in Lyon**. It comes tomorrow before noon.",
                calls=[
                    ("find_order", {"order": "4822"}, {"order": "4822", "status": "sent", "carrier": "LP"}),
                    ("track", {"carrier": "LP", "parcel": "LP-99120"}, {"place": "Lyon", "eta": "tomorrow 12:00"}),
                ],
                state={"parcel": "LP-99120"},
            ),
            Said("Thank you!", "You are welcome."),
        ),
    ),
    (
        "Orders from a script",
        "support",
        (Said("Can I read the state of my orders from a program?", _CODE),),
    ),
    (
        "تغيير عنوان التسليم",
        "support",
        (
            Said(
                "أريد تغيير عنوان التسليم للطلب 4900.",
                "تم تغيير العنوان. سيصل الطلب **يوم الخميس**.",
                calls=[("change_address", {"order": "4900", "city": "Marseille"}, {"changed": True})],
            ),
        ),
    ),
    (
        "退货运费",
        "support",
        (Said("退货的运费由谁承担？", "在保修期内，退货运费由我们承担。请使用包裹中的 **退货标签**。"),),
    ),
    (
        "Change of a subscription",
        "billing",
        (
            Said(
                "Please move me to the yearly plan.",
                "You are on the **yearly plan** from 1 December on; what is left of this month is credited.",
                calls=[("change_plan", {"plan": "yearly"}, {"plan": "yearly", "credit": 4.2})],
                state={"plan": "yearly"},
            ),
        ),
    ),
    (
        "Invoice without VAT",
        "billing",
        (
            Said(
                "My invoice of October has no VAT number on it.",
                "I have written it anew with your number; the new one is in your mailbox.",
                calls=[
                    ("find_invoice", {"month": "2026-10"}, {"invoice": "R-5512", "vat": None}),
                    ("write_invoice", {"invoice": "R-5512", "vat": "FR40303265045"}, {"invoice": "R-5512-2"}),
                ],
            ),
        ),
    ),
)

_ERRORS = (
    {"type": "ModelHTTPError", "message": "429: too many requests, try again in 20 s."},
    {"type": "ToolTimeout", "message": "find_order did not answer within 10 s."},
)


def one_of_many(chance: random.Random) -> tuple[str, str, list[Said]]:
    """A name, an agent, and what was said."""
    name, agent, talk = chance.choice(_TALKS)
    said: list[Said] = []
    for one in talk * chance.choice((1, 1, 1, 2, 3)):
        failed = chance.random() < 0.06
        rated = (float(chance.choice((3, 4, 4, 5, 5))), "") if chance.random() < 0.3 and not failed else None
        error = dict(chance.choice(_ERRORS)) if failed else None
        said.append(Said(one.asked, one.answer, one.calls, one.thought, dict(one.state), error, rated))
    return name, agent, said


def fill_samples(filling: Filling, count: int = 70) -> None:
    """Store the sample sessions."""
    filling.fill(one_of_many, count)
    yesterday = filling.now - timedelta(hours=21)
    filling.session("refund-4711", REFUND, began=yesterday, name="Refund for order 4711", agent="support", user="ada")
    filling.done()
