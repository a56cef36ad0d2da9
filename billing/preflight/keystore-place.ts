import { accessSync, constants, existsSync, realpathSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname } from 'node:path';
import { isAbsolutePath, isPostgres, keystoreName, sqlitePath } from '../../shared/keystore-url.ts';
import { type Check, type Finding, ok, type PreflightContext, stop, stopIfLive } from './check.ts';

/** What `statfs` calls file systems that are in memory: tmpfs, ramfs. */
const IN_MEMORY = new Set([0x01021994, 0x858458f6]);
/** And the writable layer of a container, which goes with it. */
const CONTAINER_LAYER = 0x794c7630;
const REMEDY =
  'Set KEYSTORE_URL to a file on a disk that stays, such as sqlite:/var/lib/tollgate/keystore.sqlite.';

export const keystorePlace: Check = {
  id: 'keystore',
  title: 'The keystore is on a disk that stays, and can be written',
  offline: true,
  async run(context) {
    const { config, keystore } = context;
    const name = keystoreName(config.keystoreUrl);
    try {
      await keystore.checkWritable();
    } catch (error) {
      return stop(
        `${name} cannot be written: ${(error as Error).message}`,
        'Look at disk space and permissions.',
      );
    }
    if (isPostgres(config.keystoreUrl)) return ok(`${name} can be written.`);
    return (await placeFault(context)) ?? ok(`${name} can be written.`);
  },
};

/** What is wrong with where a SQLite keystore lies; `null`: nothing. */
async function placeFault(context: PreflightContext): Promise<Finding | null> {
  const { keystoreUrl } = context.config;
  if (!isAbsolutePath(keystoreUrl)) {
    return stopIfLive(
      context,
      'KEYSTORE_URL is a relative path: started from elsewhere, there would be another keystore.',
      REMEDY,
    );
  }
  const folder = realpathSync(dirname(sqlitePath(keystoreUrl)));
  if ([tmpdir(), '/tmp', '/var/tmp', '/dev/shm'].some((temporary) => isWithin(folder, temporary)))
    return stopIfLive(context, `${folder} is a folder for temporary files, which are removed.`, REMEDY);
  const { type } = await statfs(folder);
  if (IN_MEMORY.has(type))
    return stop(`${folder} is in memory: a restart of the machine would empty it.`, REMEDY);
  if (type === CONTAINER_LAYER && isContainer())
    return stop(`${folder} is in the layer of this container, and goes with it.`, 'Mount a volume there.');
  return null;
}

/** Docker and Podman leave a file; under Kubernetes, neither containerd nor CRI-O does. */
function isContainer(): boolean {
  return (
    existsSync('/.dockerenv') ||
    existsSync('/run/.containerenv') ||
    process.env.KUBERNETES_SERVICE_HOST !== undefined
  );
}

function isWithin(folder: string, other: string): boolean {
  try {
    accessSync(other, constants.F_OK);
    const outer = realpathSync(other);
    return folder === outer || folder.startsWith(`${outer}/`);
  } catch {
    return false;
  }
}
