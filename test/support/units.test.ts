import { describe, expect, it } from 'vitest';
import { nearestName, suggestion } from '../../src/support/nearest-name.ts';
import { formatSize, parseDuration, parseSize } from '../../src/support/units.ts';

describe('units', () => {
  it.each([
    ['50ms', 50],
    ['1.5s', 1500],
    ['2 m', 120_000],
    ['1h', 3_600_000],
    ['7d', 604_800_000],
  ])('%s is a duration', (text, ms) => expect(parseDuration(text)).toBe(ms));

  it.each([
    ['16MB', 16_000_000],
    ['16MiB', 16_777_216],
    ['64 kB', 64_000],
    ['512B', 512],
    ['1.5GB', 1_500_000_000],
  ])('%s is a size', (text, bytes) => expect(parseSize(text)).toBe(bytes));

  it.each(['', '5', 'ms', '-1s', '1 year', '1e3s', '5 s s', 'constructor'])('%j is neither', (text) => {
    expect(parseDuration(text)).toBeNaN();
    expect(parseSize(text)).toBeNaN();
  });

  it('formats for people', () => {
    expect([0, 999, 1000, 12_345_678, 5e12].map(formatSize)).toEqual(['0 bytes', '999 bytes', '1.0 kB', '12.3 MB', '5.0 TB']);
  });
});

describe('nearestName', () => {
  it('finds what was meant', () => {
    expect(nearestName('postgre', ['jsonl', 'postgres'])).toBe('postgres');
    expect(nearestName('Staet', ['state', 'sinks'])).toBe('state');
    expect(nearestName('fiel', ['file', 'fill'])).toBe('file');
  });

  it('does not guess', () => {
    expect(nearestName('oracle', ['jsonl', 'postgres'])).toBeNull();
    expect(suggestion('oracle', ['jsonl', 'postgres'])).toBe(' (known: jsonl, postgres)');
  });
});
