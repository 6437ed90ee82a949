/** The configuration's JSON Schema: `schemas/waggle.schema.json`, editors, and the known names for messages. */
import { z } from 'zod';
import { CONNECTORS } from '../../connectors/registry.ts';
import type { ConfigPath } from './config-source.ts';
import { configSchema, sinkCommonSchema } from './schema.ts';

export interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: JsonSchema | boolean;
  readonly oneOf?: readonly JsonSchema[];
  readonly const?: unknown;
  readonly [keyword: string]: unknown;
}

const ofZod = (schema: z.ZodType): JsonSchema => {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'input' });
  return rest as JsonSchema;
};

/** A sink of this type: the common options and the connector's own in one object. */
const sinkJsonSchema = (type: string): JsonSchema => {
  const common = ofZod(sinkCommonSchema);
  const own = ofZod(CONNECTORS[type]!.options);
  return {
    type: 'object',
    properties: { type: { const: type }, ...own.properties, ...common.properties },
    required: ['type', ...(own.required ?? [])],
    additionalProperties: false,
  };
};

export const configJsonSchema = (): JsonSchema => {
  const config = ofZod(configSchema);
  const sinks = { ...config.properties!['sinks']!, additionalProperties: { oneOf: Object.keys(CONNECTORS).map(sinkJsonSchema) } };
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Waggle configuration',
    ...config,
    properties: { ...config.properties, sinks },
  };
};

/** The option names that the place `path` knows; `typeOf` tells the type of the sink there. */
export const knownOptions = (path: ConfigPath, typeOf: (sink: ConfigPath) => unknown): string[] => {
  let schema: JsonSchema | undefined = configJsonSchema();
  for (const [index, segment] of path.entries()) {
    const inner: JsonSchema | boolean | undefined = schema?.properties?.[String(segment)] ?? schema?.additionalProperties;
    schema = typeof inner === 'object' ? inner : undefined;
    const type: unknown = schema?.oneOf === undefined ? undefined : typeOf(path.slice(0, index + 1));
    if (type !== undefined) schema = schema?.oneOf?.find((one) => one.properties?.['type']?.const === type);
  }
  return Object.keys(schema?.properties ?? {});
};
