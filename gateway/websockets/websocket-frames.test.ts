import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CLOSE_POLICY_VIOLATION, CLOSE_PROTOCOL_ERROR, closeFrame, FrameReader } from './websocket-frames.ts';

/** A frame with a payload of zeros. */
function frame(opcode: number, length: number, { fin = true, masked = true } = {}): Buffer {
  const head = [(fin ? 0x80 : 0) | opcode];
  const mask = masked ? 0x80 : 0;
  if (length < 126) head.push(mask | length);
  else if (length < 65_536) head.push(mask | 126, length >> 8, length & 0xff);
  else
    head.push(
      mask | 127,
      0,
      0,
      0,
      0,
      length >>> 24,
      (length >> 16) & 0xff,
      (length >> 8) & 0xff,
      length & 0xff,
    );
  return Buffer.concat([Buffer.from(head), Buffer.alloc((masked ? 4 : 0) + length)]);
}

const length = fc.oneof(fc.constantFrom(0, 1, 125, 126, 127, 65_535, 65_536), fc.nat(300));
const control = fc.tuple(fc.constantFrom(9, 10), fc.nat(125)).map(([opcode, size]) => frame(opcode, size));
/** A message in one frame or several, with control frames in between. */
const message = fc
  .tuple(
    fc.constantFrom(1, 2),
    fc.array(length, { minLength: 1, maxLength: 4 }),
    fc.array(control, { maxLength: 2 }),
  )
  .map(([opcode, lengths, controls]) =>
    Buffer.concat(
      lengths.flatMap((size, i) => [
        frame(i === 0 ? opcode : 0, size, { fin: i === lengths.length - 1 }),
        ...(i === 0 ? controls : []),
      ]),
    ),
  );

/** The same bytes in pieces. */
function pieces(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const all: Buffer[] = [];
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] as number;
    all.push(bytes.subarray(at, at + size));
    at += size;
  }
  return all;
}

describe('the frames of a client', () => {
  it('pass byte for byte in whatever pieces they come, and each message is counted once', () => {
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 5 }),
        fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 8 }),
        (messages, sizes) => {
          let counted = 0;
          const reader = new FrameReader(true, () => ++counted > 0);
          const bytes = Buffer.concat(messages);
          const passed = pieces(bytes, sizes).map((piece) => Buffer.from(reader.read(piece)));
          expect(Buffer.concat(passed).equals(bytes)).toBe(true);
          expect([counted, reader.stopped, reader.isBetweenFrames]).toEqual([messages.length, null, true]);
        },
      ),
    );
  });

  it('stop before the message that there is no room for, and nothing passes after it', () => {
    const first = frame(1, 10);
    for (const sizes of [[1], [3], [1000]]) {
      let room = 1;
      const reader = new FrameReader(true, () => room-- > 0);
      const passed = pieces(Buffer.concat([first, frame(9, 5), frame(1, 10), frame(9, 5)]), sizes).map(
        (piece) => Buffer.from(reader.read(piece)),
      );
      expect(Buffer.concat(passed)).toEqual(Buffer.concat([first, frame(9, 5)]));
      expect([reader.stopped, reader.isBetweenFrames]).toEqual([CLOSE_POLICY_VIOLATION, true]);
    }
  });

  it.each([
    ['without a mask', frame(1, 5, { masked: false })],
    ['of a reserved kind', frame(3, 5)],
    ['of a reserved control kind', frame(11, 5)],
    ['that control and are long', frame(9, 126)],
    ['that control and are fragmented', frame(9, 5, { fin: false })],
    ['that continue nothing', frame(0, 5)],
    ['that begin in the middle of a message', Buffer.concat([frame(1, 5, { fin: false }), frame(1, 5)])],
    [
      'longer than anything',
      Buffer.from([0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
    ],
  ])('%s are none', (_name, bytes) => {
    const reader = new FrameReader(true);
    reader.read(bytes);
    expect(reader.stopped).toBe(CLOSE_PROTOCOL_ERROR);
  });
});

it('a close frame is one, and its reason is cut to what fits', () => {
  const reader = new FrameReader(false);
  const frameBytes = closeFrame(1008, 'x'.repeat(200), false);
  expect(reader.read(frameBytes)).toHaveLength(2 + 125);
  expect([reader.stopped, reader.isBetweenFrames]).toEqual([null, true]);
  expect(frameBytes.readUInt16BE(2)).toBe(1008);
});
