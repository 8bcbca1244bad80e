-- Receipts expire by their moment, whatever the order is that they were kept in: a clock may have been wrong for a while.
CREATE INDEX receipt_at ON receipt (at);
