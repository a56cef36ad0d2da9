import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../../scripts/free-port.ts';
import { startServer } from '../processes.ts';
import { type Contender, debianVersion, filledIn, missingProgram, programFile } from './contender.ts';

export const haproxy: Contender = {
  name: 'HAProxy, map + stick table',
  works: true,
  madeOf: () => `HAProxy ${debianVersion('haproxy')}; keys in plain text in its map`,
  missing: () => missingProgram('haproxy'),
  async start({ keys, upstream, perKey, folder, core, started }) {
    const port = await freePort();
    const file = join(folder, 'haproxy.cfg');
    writeFileSync(file, filledIn('haproxy.cfg', { port, keys: keys.pairFile, limit: perKey, upstream }));
    const command = [programFile('haproxy') as string, '-q', '-db', '-f', file];
    const child = await startServer(command, port, core, started);
    return { url: `http://127.0.0.1:${port}`, processes: [child] };
  },
};
