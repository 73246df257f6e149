#!/usr/bin/env python3
"""Audits folders written by the file sink, with nothing but the documentation and Python's standard library.

    python3 chaos/tools/audit.py out [more folders] [--json]
    python3 chaos/tools/audit.py out --receipt receipt.json --table out_table

For each record under `_commits` (docs/file-sink.md): its checksum, its place, its predecessor; for each file it
names: that it is there, its length, its CRC32C, its rows and their hash (docs/receipts.md). Files that no record
names are found too. `--receipt` is what `qanat -o json run` printed: rows and hash of `--table` must be those of
the records. CSV and JSON files are decoded; of other formats only the bytes are checked, and the report says so.
Exit status: 0 all is well, 1 something is not, 2 it could not be looked at.
"""

import argparse
import datetime
import decimal
import gzip
import json
import os
import re
import struct
import sys
import urllib.parse

EPOCH_DAY = datetime.date(1970, 1, 1).toordinal()
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


# ---- checksums ----------------------------------------------------------------------------------------------

def crc32c_tables():
    first = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        first.append(byte)
    tables = [first]
    for _ in range(7):
        tables.append([first[value & 0xFF] ^ value >> 8 for value in tables[-1]])
    return tables


CRC = crc32c_tables()


def crc32c(data):
    t0, t1, t2, t3, t4, t5, t6, t7 = CRC
    crc, whole = 0xFFFFFFFF, len(data) // 8 * 8
    for low, high in struct.iter_unpack("<II", memoryview(data)[:whole]):
        low ^= crc
        crc = (t7[low & 0xFF] ^ t6[low >> 8 & 0xFF] ^ t5[low >> 16 & 0xFF] ^ t4[low >> 24]
               ^ t3[high & 0xFF] ^ t2[high >> 8 & 0xFF] ^ t1[high >> 16 & 0xFF] ^ t0[high >> 24])
    for byte in data[whole:]:
        crc = t0[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def documented_hash():
    """The hash of a row, by the program that the documentation holds."""
    page = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "receipts.md")
    with open(page, encoding="utf-8") as text:
        program = text.read().split("```python\n")[1].split("```")[0]
    names = {"__name__": "receipts"}
    exec(program, names)
    return names["xxh3_128"]


row_hash = documented_hash()


# ---- values -------------------------------------------------------------------------------------------------

INSTANT = re.compile(r"([+-]?\d+)-(\d+)-(\d+)[ T](\d+):(\d+)(?::(\d+)(?:\.(\d{1,9}))?)?\s*(Z|[+-]\d\d:?\d\d)?")


def instant(text):
    """Whole seconds since 1970 UTC and nanoseconds."""
    match = INSTANT.fullmatch(text.strip())
    if not match:
        raise ValueError("%r is no timestamp" % text)
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    days = datetime.date(year, month, day).toordinal() - EPOCH_DAY
    zone = match[8]
    shift = 0
    if zone and zone != "Z":
        digits = zone[1:].replace(":", "")
        shift = (int(digits[:2]) * 3600 + int(digits[2:]) * 60) * (-1 if zone[0] == "-" else 1)
    return days * 86400 + hour * 3600 + minute * 60 + second - shift, int((match[7] or "").ljust(9, "0"))


def counted(tag, count, body):
    return struct.pack("<BI", tag, count) + body


def encode(kind, value):
    """`kind` is a data type as the record's Arrow schema spells it."""
    if value is None:
        return b"\0"
    name, inner = (kind, None) if isinstance(kind, str) else next(iter(kind.items()))
    if name == "Null":
        return b"\0"
    if name == "Boolean":
        return struct.pack("<BB", 1, str(value).lower() == "true")
    if name in ("Int8", "Int16", "Int32", "Int64"):
        return struct.pack("<Bq", 2, int(value))
    if name in ("UInt8", "UInt16", "UInt32", "UInt64"):
        number = int(value)
        return struct.pack("<Bq", 2, number) if number < 1 << 63 else struct.pack("<BQ", 3, number)
    if name in ("Float16", "Float32", "Float64"):
        number = float(value)
        if name != "Float64":
            width = "<f" if name == "Float32" else "<e"
            number = struct.unpack(width, struct.pack(width, number))[0]
        return bytes.fromhex("04000000000000f87f") if number != number else struct.pack("<Bd", 4, number or 0.0)
    if name in ("Decimal32", "Decimal64", "Decimal128", "Decimal256"):
        scale = inner[1]
        unscaled = int(decimal.Decimal(str(value)).scaleb(scale, decimal.Context(prec=100)))
        wide = name == "Decimal256"
        return struct.pack("<Bb", 6 if wide else 5, scale) + unscaled.to_bytes(32 if wide else 16, "little", signed=True)
    if name in ("Utf8", "LargeUtf8", "Utf8View"):
        data = value.encode()
        return counted(7, len(data), data)
    if name in ("Binary", "LargeBinary", "BinaryView", "FixedSizeBinary"):
        data = bytes.fromhex(value)
        return counted(8, len(data), data)
    if name in ("Date32", "Date64"):
        return struct.pack("<Bq", 9, datetime.date.fromisoformat(value[:10]).toordinal() - EPOCH_DAY)
    if name in ("Time32", "Time64"):
        seconds, nanoseconds = instant("1970-01-01 " + value)
        return struct.pack("<Bq", 10, seconds * 10**9 + nanoseconds)
    if name == "Timestamp":
        return struct.pack("<BqI", 11, *instant(value))
    if name in ("List", "LargeList", "FixedSizeList"):
        field = inner[0] if isinstance(inner, list) else inner
        return counted(14, len(value), b"".join(encode(field["data_type"], item) for item in value))
    if name == "Struct":
        return counted(15, len(inner), b"".join(encode(f["data_type"], value.get(f["name"])) for f in inner))
    if name == "Map":
        key, item = inner[0]["data_type"]["Struct"]
        pairs = value.items()
        return counted(16, len(pairs), b"".join(encode(key["data_type"], k) + encode(item["data_type"], v) for k, v in pairs))
    if name == "Dictionary":
        return encode(inner[1], value)
    raise ValueError("no encoding for type %s" % json.dumps(kind))


# ---- files --------------------------------------------------------------------------------------------------

def csv_rows(text, spec):
    """Rows of fields; a field is None where the bare null literal stands."""
    delimiter, quote, escape = spec.get("delimiter") or ",", spec.get("quote") or '"', spec.get("escape")
    null = spec.get("null_literal") or ""
    row, field, quoted, inside, at = [], [], False, False, 0

    def close():
        content = "".join(field)
        row.append(None if not quoted and content == null else content)

    while at < len(text):
        char = text[at]
        at += 1
        if inside:
            if escape and char == escape and at < len(text):
                field.append(text[at])
                at += 1
            elif char == quote and not escape and text[at:at + 1] == quote:
                field.append(quote)
                at += 1
            elif char == quote:
                inside = False
            else:
                field.append(char)
        elif char == quote and not field and not quoted:
            inside = quoted = True
        elif char == delimiter:
            close()
            field, quoted = [], False
        elif char == "\n":
            close()
            yield row
            row, field, quoted = [], [], False
        elif char != "\r" or text[at:at + 1] != "\n":
            field.append(char)
    if field or row or quoted:
        close()
        yield row


def plain_csv_rows(text, spec):
    """The same without quotes in the text, which is most of the time and much faster."""
    delimiter, null = spec.get("delimiter") or ",", spec.get("null_literal") or ""
    for line in text.split("\n")[:-1]:
        yield [None if field == null else field for field in line.split(delimiter)]


def rows_of(data, record, path):
    """Rows in the order of the table's columns, or None if the format is not ours to read."""
    encoding, fields = record["encoding"], record["columns"]["fields"]
    if encoding["kind"] not in ("csv", "json"):
        return None
    compression = encoding.get("compression") or "none"
    if compression == "gzip":
        data = gzip.decompress(data)
    elif compression != "none":
        return None
    partitions = {}
    for segment in path.split("/")[:-1]:
        name, _, value = segment.partition("=")
        partitions[urllib.parse.unquote(name)] = None if value == NULL_PARTITION else urllib.parse.unquote(value)
    inside = [field["name"] for field in fields if field["name"] not in record["partitioned_by"]]
    text = data.decode("utf-8")
    if encoding["kind"] == "json":
        lines = (json.loads(line, parse_float=decimal.Decimal) for line in text.split("\n") if line)
        return ([{**line, **partitions}.get(field["name"]) for field in fields] for line in lines)
    plain = (encoding.get("quote") or '"') not in text and not encoding.get("escape")
    table = (plain_csv_rows if plain else csv_rows)(text, encoding)
    if encoding.get("header", True):
        header = next(table, None)
        if header is not None and header != inside:
            raise ValueError("its header is %s, not %s" % (header, inside))

    def give():
        for row in table:
            if len(row) != len(inside):
                raise ValueError("a row has %d fields, not %d" % (len(row), len(inside)))
            values = {**dict(zip(inside, row)), **partitions}
            yield [values[field["name"]] for field in fields]
    return give()


class Audit:
    def __init__(self, folder):
        self.folder, self.faults, self.notes = folder, [], []
        self.operators, self.named, self.removed = {}, {}, set()
        self.rows = self.bytes = self.files = 0

    def fault(self, path, epoch, message):
        self.faults.append({"path": path, "epoch": epoch, "message": message})

    def run(self):
        commits = os.path.join(self.folder, "_commits")
        for job in listed(commits):
            for operator in listed(os.path.join(commits, job)):
                place = os.path.join(commits, job, operator)
                epochs = sorted(int(n[:-5]) for n in listed(place) if re.fullmatch(r"\d+\.json", n))
                before = None
                for epoch in epochs:
                    relative = "_commits/%s/%s/%d.json" % (job, operator, epoch)
                    record = self.record(relative, job, operator, epoch)
                    if record is None:
                        before = epoch
                        continue
                    if record["previous"] != before:
                        self.fault(relative, epoch, "follows epoch %s, and the record before is that of %s: one is missing"
                                   % (record["previous"], before))
                    before = epoch
                    self.removed.update(record["removed"])
                    for file in record["files"]:
                        self.file(file, record)
        self.unnamed()

    def record(self, relative, job, operator, epoch):
        try:
            with open(os.path.join(self.folder, relative), encoding="utf-8") as file:
                text = file.read().rstrip("\n")
            record = json.loads(text)
            stated = record["record_crc32c"]
            head, found, tail = text.rpartition('"record_crc32c":%d' % stated)
            if not found or crc32c((head + '"record_crc32c":0' + tail).encode()) != stated:
                raise ValueError("its checksum is wrong")
            if (record["version"], record["job"], record["operator"], record["epoch"]) != (1, job, operator, epoch):
                raise ValueError("it is not what its place says")
            return record
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.fault(relative, epoch, "damaged record: %s" % error)
            return None

    def file(self, file, record):
        path, epoch = file["path"], record["epoch"]
        total = self.operators.setdefault((record["job"], record["operator"]), {"rows": 0, "hash": 0, "epochs": set()})
        total["epochs"].add(epoch)
        total["rows"] += file["rows"]
        total["hash"] = (total["hash"] + int(file["hash"], 16)) % (1 << 128)
        if path in self.named:
            self.fault(path, epoch, "the record of epoch %d names it too" % self.named[path])
            return
        self.named[path] = epoch
        if os.path.isabs(path) or ".." in path.split("/"):
            self.fault(path, epoch, "its path leads out of the folder")
            return
        try:
            with open(os.path.join(self.folder, path), "rb") as content:
                data = content.read()
        except OSError as error:
            if path not in self.removed:
                self.fault(path, epoch, "cannot be read: %s" % error.strerror)
            return
        self.files += 1
        self.bytes += len(data)
        if len(data) != file["bytes"]:
            self.fault(path, epoch, "has %d bytes, the record says %d" % (len(data), file["bytes"]))
        elif crc32c(data) != file["crc32c"]:
            self.fault(path, epoch, "its bytes changed: CRC32C %d, the record says %d" % (crc32c(data), file["crc32c"]))
        try:
            rows = rows_of(data, record, path)
            if rows is None:
                note = "%s files: only bytes were checked" % record["encoding"]["kind"]
                self.notes.append(note) if note not in self.notes else None
                return
            kinds = [field["data_type"] for field in record["columns"]["fields"]]
            count = total_hash = 0
            for row in rows:
                count += 1
                total_hash += row_hash(b"".join(map(encode, kinds, row)))
            found = "%032x" % (total_hash % (1 << 128))
        except (ValueError, KeyError, EOFError, OSError, ArithmeticError, struct.error, AttributeError) as error:
            self.fault(path, epoch, "cannot be decoded: %s" % error)
            return
        self.rows += count
        if (count, found) != (file["rows"], file["hash"]):
            self.fault(path, epoch, "has %d rows with hash %s, the record says %d with %s"
                       % (count, found, file["rows"], file["hash"]))

    def unnamed(self):
        for place, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if name[0] not in "._"]
            for name in files:
                path = os.path.relpath(os.path.join(place, name), self.folder).replace(os.sep, "/")
                if name[0] not in "._" and path not in self.named:
                    epoch = re.search(r"-e(\d+)-", name)
                    self.fault(path, epoch and int(epoch[1]), "no record names it")


def listed(folder):
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def compare_receipt(audits, options, faults):
    with open(options.receipt, encoding="utf-8") as file:
        receipt = json.load(file)
    jobs = [receipt] if "sinks" in receipt else receipt["jobs"]
    for job in jobs:
        stated = job["sinks"].get(options.table)
        if stated is None:
            continue
        rows = total = 0
        for audit in audits:
            for (name, _), sums in audit.operators.items():
                if name == job["job"]:
                    rows, total = rows + sums["rows"], (total + sums["hash"]) % (1 << 128)
        if (rows, "%032x" % total) != (stated["rows"], stated["hash"]):
            faults.append({"path": options.receipt, "epoch": job["epoch"],
                           "message": "the receipt says %d rows with hash %s, the records %d with %032x"
                                      % (stated["rows"], stated["hash"], rows, total)})
        return
    faults.append({"path": options.receipt, "epoch": None, "message": "it has no table %s" % options.table})


def main():
    parser = argparse.ArgumentParser(description="Audits folders written by the file sink.")
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--receipt", help="what `qanat -o json run` printed")
    parser.add_argument("--table", help="the table of the receipt that the folders hold")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if bool(options.receipt) != bool(options.table):
        parser.error("--receipt and --table go together")
    if options.receipt and len(options.folders) > 1:
        parser.error("a receipt is compared with the one folder of its table")
    audits, faults = [], []
    for folder in options.folders:
        if not os.path.isdir(folder):
            print("%s is no folder" % folder, file=sys.stderr)
            return 2
        audit = Audit(folder)
        audit.run()
        audits.append(audit)
        faults += [{**fault, "path": os.path.join(folder, fault["path"])} for fault in audit.faults]
    if options.receipt:
        try:
            compare_receipt(audits, options, faults)
        except (OSError, ValueError, KeyError) as error:
            print("%s: %s" % (options.receipt, error), file=sys.stderr)
            return 2
    report = {
        "folders": [{"folder": audit.folder, "files": audit.files, "rows": audit.rows, "bytes": audit.bytes,
                     "notes": audit.notes,
                     "operators": [{"job": job, "operator": operator, "epochs": len(sums["epochs"]),
                                    "rows": sums["rows"], "hash": "%032x" % sums["hash"]}
                                   for (job, operator), sums in audit.operators.items()]} for audit in audits],
        "faults": faults,
    }
    if options.json:
        print(json.dumps(report))
        return 1 if faults else 0
    for folder in report["folders"]:
        print("%(folder)s: %(files)d files, %(rows)d rows and %(bytes)d bytes read again" % folder)
        for operator in folder["operators"]:
            print("  job %(job)s operator %(operator)s: %(epochs)d epochs, %(rows)d rows, hash %(hash)s" % operator)
        for note in folder["notes"]:
            print("  note: " + note)
    for fault in faults:
        print("FAULT %s%s: %s" % (fault["path"], "" if fault["epoch"] is None else " (epoch %d)" % fault["epoch"],
                                  fault["message"]))
    print("audit %s" % ("failed" if faults else "passed"))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
