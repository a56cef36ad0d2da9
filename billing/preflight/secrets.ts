import { type Check, type Finding, ok, type PreflightContext, stop, warning } from './check.ts';
import {
  GitUnreadableError,
  type Leak,
  type LeakSearch,
  SecretFinder,
  searchHistory,
  searchTrackedFiles,
} from './git-secrets.ts';

/** How long the files may be searched, and then the history, milliseconds. */
const FILES_MS = 10_000;
const HISTORY_MS = 20_000;
const NAMED = 3;

const ROLL =
  'Replace it (at Stripe: roll the key), take it out of the file, and keep it in .env or a file that git ignores.';

export const secrets: Check = {
  id: 'secrets',
  title: 'Secrets are long enough, and in no file of git',
  offline: true,
  async run(context) {
    const { folder, config } = context;
    const length = `TOLLGATE_SECRET has ${Buffer.byteLength(config.serverSecret)} bytes.`;
    const finder = new SecretFinder(config);
    let files: LeakSearch | null;
    try {
      files = await searchTrackedFiles(folder, finder, performance.now() + FILES_MS);
    } catch (error) {
      if (!(error instanceof GitUnreadableError)) throw error;
      return stop(
        `${folder} is in a git repository, and what git tracks could not be searched for secrets: ${error.message}`,
        'Have this user run git there, or run from a copy that is no repository.',
      );
    }
    if (files === null)
      return ok(`${length} ${folder} is no git repository, so there was nothing to search for secrets.`);
    const inFile = leakInFiles(files);
    if (inFile) return inFile;
    const history = await searchHistory(folder, finder, performance.now() + HISTORY_MS);
    const own = history.leaks.filter(({ kind }) => kind === 'own');
    if (own.length > 0)
      return stop(`In the history of git: ${named(own)}.`, 'Replace it: whoever has the repository has it.');
    const other = [...files.leaks, ...history.leaks];
    if (other.length > 0) {
      return warning(
        `Of the form of a secret: ${named(other)}.`,
        'Make sure that it was replaced: whoever has the repository has it.',
      );
    }
    const searched = 'Secrets were searched for in the files that git tracks, and in its history';
    if (files.complete && history.complete) return ok(`${length} ${searched}: none.`);
    return warning(
      `${length} ${searched}, as far as that went within ${(FILES_MS + HISTORY_MS) / 1000} seconds: none.`,
      'Search the rest with a tool made for it, such as gitleaks.',
    );
  },
};

/**
 * Whether a file that git tracks holds a secret, without its history.
 *
 * @param limitMs how long that may take; what was not searched by then holds none, for all that is known
 * @throws GitUnreadableError where there is a repository that git cannot read
 */
export async function secretInTrackedFile(
  { folder, config }: Pick<PreflightContext, 'folder' | 'config'>,
  limitMs: number,
): Promise<Finding | null> {
  const files = await searchTrackedFiles(folder, new SecretFinder(config), performance.now() + limitMs);
  return files && leakInFiles(files);
}

function leakInFiles({ leaks }: LeakSearch): Finding | null {
  const grave = leaks.filter(({ kind }) => kind !== 'other');
  return grave.length > 0 ? stop(`In a file that git tracks: ${named(grave)}.`, ROLL) : null;
}

function named(leaks: readonly Leak[]): string {
  const each = [...new Set(leaks.map(({ what, where }) => `${what} in ${where}`))];
  const more = each.length > NAMED ? ` and ${each.length - NAMED} more` : '';
  return `${each.slice(0, NAMED).join(', ')}${more}`;
}
