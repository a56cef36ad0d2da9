import { invalid, noSuch } from './errors.ts';
import { integer, string } from './params.ts';

export interface List<T> {
  object: 'list';
  data: T[];
  has_more: boolean;
  url: string;
}

export interface Page {
  limit?: number | undefined;
  starting_after?: string | undefined;
  ending_before?: string | undefined;
}

export const pageParams = {
  limit: integer(1, 100),
  starting_after: string(),
  ending_before: string(),
};

/** A list inside an object, with all it has. */
export function listOf<T>(data: T[], url: string): List<T> {
  return { object: 'list', data, has_more: false, url };
}

/**
 * One page of `items`, which stand newest first (https://docs.stripe.com/api/pagination). `ending_before` gives the
 * page just before the object named, still newest first.
 *
 * @throws StripeError 400 when a cursor names nothing in the list, or both cursors are given.
 */
export function paginate<T extends { id: string; object?: string }>(
  items: T[],
  page: Page,
  url: string,
): List<T> {
  const limit = page.limit ?? 10;
  if (page.starting_after !== undefined && page.ending_before !== undefined) {
    throw invalid('Received both starting_after and ending_before parameters. Please pass in only one.');
  }
  if (page.ending_before !== undefined) {
    const end = indexOf(items, page.ending_before, 'ending_before');
    const start = Math.max(0, end - limit);
    return { object: 'list', data: items.slice(start, end), has_more: start > 0, url };
  }
  const start =
    page.starting_after === undefined ? 0 : indexOf(items, page.starting_after, 'starting_after') + 1;
  return {
    object: 'list',
    data: items.slice(start, start + limit),
    has_more: start + limit < items.length,
    url,
  };
}

function indexOf(items: { id: string; object?: string }[], id: string, param: string): number {
  const index = items.findIndex((item) => item.id === id);
  if (index < 0) throw noSuch(items[0]?.object ?? 'object', id, param, 400);
  return index;
}
