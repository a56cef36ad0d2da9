/** Codes of RFC 6455 section 7.4.1 that the gateway closes with. */
export const CLOSE_GOING_AWAY = 1001;
export const CLOSE_PROTOCOL_ERROR = 1002;
export const CLOSE_POLICY_VIOLATION = 1008;
/** Registered as "Try Again Later" (IANA's WebSocket close codes). */
export const CLOSE_TRY_AGAIN = 1013;

const NOTHING = Buffer.alloc(0);
/** Reason and code have to fit into one control frame. */
const MAX_REASON_BYTES = 123;

/**
 * Follows the frames of one direction of a WebSocket (RFC 6455 section 5.2) without looking into them: it reads their
 * heads and lets the bytes pass.
 */
export class FrameReader {
  readonly #masked: boolean;
  readonly #onMessage: (() => boolean) | null;
  /** The beginning of a head that is not complete; held back until it is. */
  #head: Buffer = NOTHING;
  /** Bytes of the frame under way that have not come. */
  #left = 0;
  #fragmented = false;
  /** Why nothing further passes: a close code. */
  stopped: typeof CLOSE_PROTOCOL_ERROR | typeof CLOSE_POLICY_VIOLATION | null = null;

  /**
   * @param masked whether the frames have to be masked: a client's have to, a server's must not
   * @param onMessage called when a message begins; `false` keeps it from passing
   */
  constructor(masked: boolean, onMessage: (() => boolean) | null = null) {
    this.#masked = masked;
    this.#onMessage = onMessage;
  }

  /** Whether the bytes that passed end with a whole frame, so that another may follow. */
  get isBetweenFrames(): boolean {
    return this.#left === 0;
  }

  /** Takes what came and returns what of it may pass. */
  read(chunk: Buffer): Buffer {
    if (this.stopped !== null) return NOTHING;
    const bytes = this.#head.length === 0 ? chunk : Buffer.concat([this.#head, chunk]);
    let at = 0;
    while (at < bytes.length) {
      if (this.#left > 0) {
        const here = Math.min(this.#left, bytes.length - at);
        this.#left -= here;
        at += here;
        continue;
      }
      const head = readHead(bytes, at);
      if (head === null) break;
      this.stopped = this.#verdict(head);
      if (this.stopped !== null) {
        this.#head = NOTHING;
        return bytes.subarray(0, at);
      }
      this.#left = head.payload;
      at += head.size;
    }
    this.#head = bytes.subarray(at);
    return bytes.subarray(0, at);
  }

  #verdict({ fin, opcode, masked, payload }: FrameHead): FrameReader['stopped'] {
    if (masked !== this.#masked || payload > Number.MAX_SAFE_INTEGER) return CLOSE_PROTOCOL_ERROR;
    if (opcode >= 8) return opcode <= 10 && fin && payload <= 125 ? null : CLOSE_PROTOCOL_ERROR;
    // A message begins with its kind and goes on with continuations until the last frame.
    if (opcode > 2 || (opcode === 0) !== this.#fragmented) return CLOSE_PROTOCOL_ERROR;
    this.#fragmented = !fin;
    return opcode === 0 || this.#onMessage === null || this.#onMessage() ? null : CLOSE_POLICY_VIOLATION;
  }
}

type FrameHead = { fin: boolean; opcode: number; masked: boolean; payload: number; size: number };

/** `null`: it is not all there. */
function readHead(bytes: Buffer, at: number): FrameHead | null {
  const there = bytes.length - at;
  if (there < 2) return null;
  const first = bytes[at] as number;
  const second = bytes[at + 1] as number;
  const masked = second >= 0x80;
  let payload = second & 0x7f;
  const lengthBytes = payload === 127 ? 8 : payload === 126 ? 2 : 0;
  const size = 2 + lengthBytes + (masked ? 4 : 0);
  if (there < size) return null;
  if (lengthBytes === 2) payload = bytes.readUInt16BE(at + 2);
  else if (lengthBytes === 8) payload = bytes.readUInt32BE(at + 2) * 2 ** 32 + bytes.readUInt32BE(at + 6);
  return { fin: first >= 0x80, opcode: first & 0x0f, masked, payload, size };
}

/** A close frame, for a client or, masked, for a server. @param reason cut to what fits */
export function closeFrame(code: number, reason: string, masked: boolean): Buffer {
  const text = Buffer.from(reason).subarray(0, MAX_REASON_BYTES);
  const length = 2 + text.length;
  // A mask of zeros leaves the bytes as they are; what it is meant against is a script's bytes, and these are ours.
  const frame = Buffer.alloc(2 + (masked ? 4 : 0) + length);
  frame[0] = 0x88;
  frame[1] = (masked ? 0x80 : 0) | length;
  const from = frame.length - length;
  frame.writeUInt16BE(code, from);
  text.copy(frame, from + 2);
  return frame;
}
