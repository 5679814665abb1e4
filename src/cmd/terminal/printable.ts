/**
 * What a guest, a file or another user chose never steers a terminal: everything but letters becomes visible. A
 * terminal obeys control characters (ECMA-48: C0 and C1, also as single bytes) and shows bidirectional and invisible
 * ones (Unicode: general category Cf) as if the text were another.
 */

/** Zero-width joiner and non-joiner belong to words and emoji; tab and line feed only move on. */
const UNSEEN = /\u001b\[[\d;:]*m|(?![\t\n\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
/** Lines of a serial console end so. */
const LINE_END = /\r+\n/g;
/** One UTF-8 sequence (Unicode 15, table 3-7), or in the group a byte that belongs to none. Of bytes, one per character. */
const SEQUENCE =
  // eslint-disable-next-line no-control-regex
  /[\0-\x7f]+|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}|([\x80-\xff])/g;
/** What may go on in the next piece: a UTF-8 sequence, a colour, a line's end. Of bytes, one per character. */
const UNFINISHED =
  // eslint-disable-next-line no-control-regex
  /(?:[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2}|\x1b(?:\[[\d;:]{0,32})?|\r{1,16})$/;

/** `\x1b`, `\u202e`: as source code has it. */
function written(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, "0")}`;
  return code < 0x10000 ? `\\u${code.toString(16).padStart(4, "0")}` : `\\u{${code.toString(16)}}`;
}

/** Text for a terminal. Colours go; line feeds and tabs stay; everything else that is no letter is written out. */
export function printable(text: string): string {
  return text.replace(LINE_END, "\n").replace(UNSEEN, (found) => (found.length > 2 ? "" : written(found)));
}

/** The same on one line. */
export function printableLine(text: string): string {
  return printable(text).replace(/[\n\t]+/g, " ");
}

/** A JSON text whose strings hold nothing unseen; it means the same. */
export function printableJson(json: string): string {
  return json.replace(UNSEEN, (found) =>
    [...Array(found.length).keys()].map((i) => `\\u${found.charCodeAt(i).toString(16).padStart(4, "0")}`).join(""),
  );
}

/** {@link printable} for bytes that come in pieces. */
export class TerminalFilter {
  #rest = "";

  feed(bytes: string | Uint8Array): string {
    const text = this.#rest + Buffer.from(bytes as Uint8Array).toString("latin1");
    this.#rest = UNFINISHED.exec(text)?.[0] ?? "";
    return decode(this.#rest === "" ? text : text.slice(0, -this.#rest.length));
  }

  /** What was kept back. */
  flush(): string {
    const rest = this.#rest;
    this.#rest = "";
    return decode(rest);
  }
}

function decode(bytes: string): string {
  // A byte outside of UTF-8 may be a control character of the terminal's (0x9b is ESC [).
  const valid = bytes.replace(SEQUENCE, (found, stray: string | undefined) =>
    stray === undefined ? found : written(stray),
  );
  return printable(Buffer.from(valid, "latin1").toString("utf8"));
}
