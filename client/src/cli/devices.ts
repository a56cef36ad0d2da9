import type { KnownDevice } from '../licensing.ts';
import { timeText } from '../time-text.ts';
import { CHOICE, type Command, chosen } from './command.ts';
import { EXIT } from './exit-codes.ts';
import { printable, type Terminal } from './terminal.ts';

export const devices: Command = {
  usage: 'devices [--json]',
  summary: 'List the devices that are active.',
  help: [['--json', 'print JSON']],
  options: { ...CHOICE, json: { type: 'boolean' } },
  words: 0,
  async run(given, { current, terminal }) {
    const tollgate = await current.tollgate(chosen(given));
    const { devices: active, limit } = await tollgate.devices();
    if (given.options.json) {
      terminal.json({
        limit,
        devices: active.map((each) => ({
          id: each.id,
          name: each.name,
          activated_at: isoOrNull(each.activatedAt),
          last_seen_at: isoOrNull(each.lastSeenAt),
          this_device: each.isThis,
        })),
      });
      return EXIT.fine;
    }
    terminal.line(`${active.length} of ${limit} ${limit === 1 ? 'device is' : 'devices are'} active.`);
    if (active.length > 0) {
      terminal.line();
      devicesTable(active, terminal);
    }
    return EXIT.fine;
  },
};

export function devicesTable(
  active: readonly (KnownDevice & { isThis: boolean })[],
  terminal: Terminal,
): void {
  terminal.table([
    ['DEVICE', 'NAME', 'ACTIVE SINCE', 'LAST SEEN', ''],
    ...active.map(({ id, name, activatedAt, lastSeenAt, isThis }) => [
      printable(id).slice(0, 12),
      printable(name ?? '-'),
      activatedAt === null ? '-' : timeText(activatedAt),
      lastSeenAt === null ? '-' : timeText(lastSeenAt),
      isThis ? 'this device' : '',
    ]),
  ]);
}

function isoOrNull(at: number | null): string | null {
  return at === null ? null : new Date(at).toISOString();
}
