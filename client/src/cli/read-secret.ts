import { TollgateError } from '../error.ts';

/** A key is shorter than this by far. */
const MAX_LENGTH = 4096;

/** Reads a line from standard input. On a terminal it is asked for, and not shown while it is typed. */
export async function readSecret(prompt: string): Promise<string> {
  const { stdin, stderr } = process;
  if (!stdin.isTTY) return firstLine(stdin);
  stderr.write(prompt);
  stdin.setRawMode(true);
  try {
    return await typedLine(stdin);
  } finally {
    stdin.setRawMode(false);
    stdin.pause();
    stderr.write('\n');
  }
}

async function firstLine(input: AsyncIterable<Buffer | string>): Promise<string> {
  let text = '';
  for await (const chunk of input) {
    text += chunk.toString();
    if (text.includes('\n') || text.length > MAX_LENGTH) break;
  }
  return text.split('\n', 1)[0] as string;
}

/** In raw mode Ctrl-C, Ctrl-D and the backspace come as characters. */
async function typedLine(input: AsyncIterable<Buffer | string>): Promise<string> {
  let text = '';
  for await (const chunk of input) {
    for (const char of chunk.toString()) {
      if (char === '\r' || char === '\n' || char === '\u0004') return text;
      if (char === '\u0003') throw new TollgateError('aborted', 'Stopped.');
      text = char === '\u007f' || char === '\b' ? text.slice(0, -1) : text + char;
    }
  }
  return text;
}
