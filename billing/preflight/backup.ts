import { tryRestore } from '../../keystore/keystore.ts';
import { type Check, ok, skipped, stop, stopIfLive, warning } from './check.ts';

const HOUR_MS = 3_600_000;
/** What is sold since the last backup is lost with the keystore, so one a day is little enough. */
const RECENT_MS = 26 * HOUR_MS;
/** From then on nobody can be said to make backups. */
const OLD_MS = 7 * 24 * HOUR_MS;

const REMEDY = 'npm run keystore -- backup <file>, every day, from a timer.';

export const backup: Check = {
  id: 'backup',
  title: 'There is a recent backup, and it can be restored',
  offline: true,
  async run(context) {
    const { config, keystore, backupFile, now } = context;
    const last = await keystore.lastBackup();
    if (last === null)
      return stopIfLive(
        context,
        'This keystore was never backed up with npm run keystore -- backup.',
        REMEDY,
      );
    const file = backupFile ?? last.file;
    const made = `The last backup was made ${ageText(now() - last.at)} ago`;
    if (now() - last.at > OLD_MS) return stopIfLive(context, `${made}.`, REMEDY);
    let tried: { keys: number; madeAt: number | null };
    try {
      tried = await tryRestore(file, config.serverSecret);
    } catch (error) {
      const { code, message, syscall } = error as NodeJS.ErrnoException;
      if (syscall === 'mkdtemp') {
        return skipped(
          `${made}, but there is no place here to try whether it can be restored: ${message}`,
          'Run this where there is a folder for temporary files, or set TMPDIR.',
        );
      }
      if (code !== 'ENOENT')
        return stop(
          `${file} could not be restored: ${message}`,
          'Make another backup, and find out what became of this one.',
        );
      return skipped(
        `${made}, and ${file} is not there any more: it could not be tried whether it can be restored.`,
        'Fetch it from where it is kept, and say --backup <file>.',
      );
    }
    const { keys, madeAt } = tried;
    const restored = `a trial restore of ${file} had ${keys} ${keys === 1 ? 'key' : 'keys'}`;
    // A file that was named may be an older one than the last that was made. Of that one it is noted when it was made; one of
    // an older version does not say so itself.
    const older = file !== last.file && madeAt !== null && madeAt < last.at;
    const age = now() - (older ? madeAt : last.at);
    const detail = older
      ? `${made}, but what is in ${file} is of ${ageText(age)} ago; ${restored}.`
      : `${made}; ${restored}.`;
    if (age > OLD_MS)
      return stopIfLive(context, detail, older ? `Say --backup with the last one. ${REMEDY}` : REMEDY);
    return age > RECENT_MS ? warning(detail, REMEDY) : ok(detail);
  },
};

function ageText(ms: number): string {
  const hours = Math.round(ms / HOUR_MS);
  if (hours < 1) return 'less than an hour';
  if (hours < 48) return `${hours} ${hours === 1 ? 'hour' : 'hours'}`;
  return `${Math.round(hours / 24)} days`;
}
