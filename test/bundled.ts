import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';
import { temporaryFolder } from './keystores.ts';

const ROOT = join(import.meta.dirname, '..');
/** They bring compiled code, or are what a test lays hands on: they stay where they are. */
const OUTSIDE = ['@node-rs/argon2', 'better-sqlite3'];

/**
 * A program of the project with all that it imports in one file, which starts in less than half of the time: for a test that
 * starts it a hundred times, and is not about how it starts. Returns the file.
 */
export async function bundled(script: string): Promise<string> {
  const file = join(temporaryFolder(), 'bundled.mjs');
  const bundle = await rolldown({
    input: join(ROOT, script),
    platform: 'node',
    plugins: [
      {
        name: 'as if everything were still in its place',
        resolveId: (name) =>
          OUTSIDE.includes(name)
            ? { id: fileURLToPath(import.meta.resolve(name)), external: 'absolute' }
            : null,
        transform: (code, id) =>
          code.includes('import.meta.dirname')
            ? code.replaceAll('import.meta.dirname', JSON.stringify(dirname(id)))
            : null,
      },
    ],
  });
  await bundle.write({ file, format: 'esm', codeSplitting: false });
  await bundle.close();
  return file;
}
