import { invalid } from './errors.ts';
import { type Field, integer, oneOf, only, required, string, unsupported } from './params.ts';

/** A three-letter ISO currency code, read in any case, kept in lower case. */
export function currency(): Field<string> {
  const three = string(3);
  return {
    needed: false,
    parse(raw, path) {
      const value = three.parse(raw, path).toLowerCase();
      if (!/^[a-z]{3}$/.test(value)) throw invalid(`Invalid currency: ${value}`, path);
      return value;
    },
  };
}

/** How often a price made inside another request recurs. */
export const inlineRecurringShape = {
  interval: required(oneOf('day', 'week', 'month', 'year')),
  interval_count: integer(1, 1095),
};

export const recurringShape = {
  ...inlineRecurringShape,
  usage_type: only('licensed'),
  ...unsupported('meter', 'trial_period_days'),
};
