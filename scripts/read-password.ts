import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { text } from 'node:stream/consumers';

/**
 * A password, typed twice at the terminal without being shown, or else the first line of standard input.
 *
 * @returns `null` when the two differ
 */
export async function readPassword(prompt: string): Promise<string | null> {
  if (!process.stdin.isTTY) return (await text(process.stdin)).split(/\r?\n/)[0] ?? '';
  const first = await typed(`${prompt}: `);
  return (await typed('Once more: ')) === first ? first : null;
}

async function typed(prompt: string): Promise<string> {
  process.stderr.write(prompt);
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: process.stdin, output: nowhere, terminal: true });
  try {
    return await new Promise<string>((resolve) => {
      lines.once('line', resolve);
      lines.once('close', () => resolve(''));
      lines.once('SIGINT', () => process.exit(130));
    });
  } finally {
    lines.close();
    process.stderr.write('\n');
  }
}
