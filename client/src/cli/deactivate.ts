import type { KnownDevice } from '../licensing.ts';
import type { Tollgate } from '../tollgate.ts';
import { CHOICE, type Command, chosen } from './command.ts';
import { EXIT, UsageError } from './exit-codes.ts';
import { printable } from './terminal.ts';

/** Fewer characters would name too many. */
const SHORTEST_PREFIX = 4;

export const deactivate: Command = {
  usage: 'deactivate [<device>]',
  summary: 'Release a device, this one unless said, so that another can be activated.',
  help: [['<device>', 'its id, the beginning of its id, or its name, as tollgate devices lists them']],
  options: CHOICE,
  words: 1,
  async run(given, { current, terminal }) {
    const tollgate = await current.tollgate(chosen(given));
    const [wanted] = given.words;
    const device = wanted === undefined ? undefined : await find(tollgate, wanted);
    const { used, limit } = await tollgate.deactivate(device?.id);
    const name = device === undefined || device.isThis ? 'This device' : printable(device.name ?? device.id);
    terminal.done(
      `${name} is released. ${used} of ${limit} ${limit === 1 ? 'device is' : 'devices are'} active.`,
    );
    return EXIT.fine;
  },
};

async function find(tollgate: Tollgate, wanted: string): Promise<KnownDevice & { isThis: boolean }> {
  const { devices } = await tollgate.devices();
  const exact = devices.filter(({ id, name }) => id === wanted || name === wanted);
  const near = wanted.length < SHORTEST_PREFIX ? [] : devices.filter(({ id }) => id.startsWith(wanted));
  const found = exact.length > 0 ? exact : near;
  const [device] = found;
  if (device === undefined) {
    throw new UsageError(`No active device is called "${wanted}".`, 'List them: tollgate devices');
  }
  if (found.length > 1) {
    throw new UsageError(
      `${found.length} devices are called "${wanted}".`,
      'Name one by its id: tollgate devices',
    );
  }
  return device;
}
