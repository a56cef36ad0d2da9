/**
 * The same text, latin1, in one piece of memory and nothing else: not put together from others, each of which is gone to
 * whenever it is written, nor a part of a larger one, all of which would stay in memory with it.
 */
export function onePiece(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1');
}
