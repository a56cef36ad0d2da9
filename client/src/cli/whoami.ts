import { maskKey } from '../key.ts';
import { timeText } from '../time-text.ts';
import { CHOICE, type Command, chosen } from './command.ts';
import { EXIT } from './exit-codes.ts';
import { featuresText } from './status.ts';
import { printable } from './terminal.ts';

export const whoami: Command = {
  usage: 'whoami',
  summary: 'Ask the server whose key this is, and what it is good for.',
  help: [],
  options: CHOICE,
  words: 0,
  async run(given, { current, terminal }) {
    const tollgate = await current.tollgate(chosen(given));
    const { valid, code, detail, remedy, licence, devices } = await tollgate.validate();
    const { key, path } = await tollgate.stored();
    // Nothing is wrong with a key that is for an API.
    const good = valid || code === 'no_licence';
    if (!good) terminal.problem(printable(detail), remedy && printable(remedy), code);
    const rows: [string, string][] = [];
    if (key !== null) rows.push(['Key', maskKey(key)]);
    if (good && !valid) rows.push(['Good for', printable(detail)]);
    if (licence !== null) {
      rows.push(['Plan', `${printable(licence.planName)} (${printable(licence.plan)}), ${licence.mode}`]);
      if (licence.until !== null) rows.push(['Paid until', timeText(licence.until)]);
      if (Object.keys(licence.features).length > 0) rows.push(['Features', featuresText(licence.features)]);
    }
    if (devices !== null) rows.push(['Devices', `${devices.used} of ${devices.limit}`]);
    rows.push(['Server', `${tollgate.server}, product ${tollgate.product}`], ['Kept in', path]);
    terminal.facts(rows);
    return good ? EXIT.fine : EXIT.notEntitled;
  },
};
