import { type Page, pageParams, paginate } from './pagination.ts';
import { list, type Parsed, type Shape, string } from './params.ts';
import type { World } from './world.ts';

export interface Route {
  method: 'GET' | 'POST' | 'DELETE';
  /** With `:id` where an id stands; `:productId` and the like where one stands before it. */
  path: string;
  shape: Shape;
  handle(world: World, params: Parsed<Shape>, id: string, owner: string): object;
}

/** Which ids in the answer are to be replaced by what they stand for. */
export const expandShape = { expand: list(string()) };

/** A route whose handler gets its parameters read and typed by `shape`. `expand` is understood by all but DELETE. */
export function route<S extends Shape>(
  method: Route['method'],
  path: string,
  shape: S,
  handle: (world: World, params: Parsed<S>, id: string, owner: string) => object,
): Route {
  return {
    method,
    path,
    shape: method === 'DELETE' ? shape : { ...shape, ...expandShape },
    handle: handle as Route['handle'],
  };
}

/** A route that answers one page of what `select` finds. */
export function listRoute<S extends Shape>(
  path: string,
  shape: S,
  select: (world: World, params: Parsed<S>, id: string) => { id: string }[],
): Route {
  return route('GET', path, { ...shape, ...pageParams }, (world, params, id) =>
    paginate(select(world, params as unknown as Parsed<S>, id), params as Page, path.replace(':id', id)),
  );
}
