"""Receipts make a retry safe: the same key and request get the stored answer, and change nothing."""

from __future__ import annotations

from usertable.store.records import KeyReused, NewReceipt, Receipt, Replayed, StoredReceipt, Written
from usertable.store.transaction import Loaded


def answer_again(receipt: Receipt, loaded: Loaded) -> Replayed | KeyReused | None:
    """Return the answer to a request whose key is stored; None if it is not."""
    stored = loaded.receipts.get(receipt.key)
    if stored is None:
        return None
    return Replayed(stored.written) if stored.fingerprint == receipt.fingerprint else KeyReused()


def kept_answer(receipt: Receipt, written: Written, loaded: Loaded, project: int, cuid: int, now: int) -> NewReceipt:
    """Return the receipt to store with a write. Later writes of the same transaction see it."""
    is_kept = receipt.whole or written.attributes is None
    kept = written if is_kept else Written(written.version, written.outcomes, None, written.effect)
    loaded.receipts[receipt.key] = StoredReceipt(receipt.fingerprint, kept)
    return NewReceipt(project, receipt.key, cuid, receipt.fingerprint, kept, now)
