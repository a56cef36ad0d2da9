import { readFileSync } from 'node:fs';
import { beforeEach, expect, test } from 'vitest';
import { routes } from './api.ts';
import { described, descriptionPath, undescribed } from './conformance.ts';
import { eventTypes } from './event-types.ts';
import type { Shape } from './params.ts';

interface Schema {
  $ref?: string;
  properties?: Record<string, Schema>;
  items?: Schema;
  anyOf?: Schema[];
  schema?: Schema;
}

const description = described ? JSON.parse(readFileSync(descriptionPath, 'utf8')) : undefined;

function resolved(schema: Schema | undefined): Schema {
  if (!schema) return {};
  if (schema.$ref) return resolved(description.components.schemas[schema.$ref.split('/').pop() as string]);
  if (schema.anyOf)
    return schema.anyOf.map(resolved).find(({ properties, items }) => properties || items) ?? {};
  if (schema.items) return resolved(schema.items);
  return schema;
}

function differences(shape: Shape, properties: Record<string, Schema>, path: string): string[] {
  const names = new Set([...Object.keys(shape), ...Object.keys(properties)]);
  return [...names].flatMap((name) => {
    const field = shape[name];
    const schema = properties[name];
    const at = `${path} ${name}`;
    if (!field) return [`${at}: unknown here`];
    if (!schema) return [`${at}: not Stripe's`];
    return field.inside ? differences(field.inside, resolved(schema).properties ?? {}, at) : [];
  });
}

beforeEach(({ skip }) =>
  skip(
    !described,
    "reference data that is not part of the project is missing: a description of Stripe's API",
  ),
);

test('every parameter of Stripe is understood or refused by name, and no other is taken', () => {
  const checked = routes.filter(({ path }) => !undescribed.test(path));
  const found = checked.flatMap(({ method, path, shape }) => {
    const operation = description.paths[path.replaceAll(/:(\w+)/g, '{$1}')]?.[method.toLowerCase()];
    if (!operation) return [`${method} ${path}: not Stripe's`];
    const body = operation.requestBody?.content['application/x-www-form-urlencoded']?.schema;
    const query = (operation.parameters ?? []).filter(
      (parameter: { in: string }) => parameter.in === 'query',
    );
    const properties = { ...resolved(body).properties };
    for (const parameter of query) properties[parameter.name] = parameter.schema;
    return differences(shape, properties, `${method} ${path}`);
  });
  expect(found).toEqual([]);
});

test('every type of event known here is one of Stripe', () => {
  expect(eventTypes.filter((type) => !description['x-allEventTypes'].includes(type))).toEqual([]);
});
