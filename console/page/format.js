// How numbers, sizes, spans and times are written.  All take what PostgreSQL's to_jsonb gives: numbers, texts, null.

import { el } from './dom.js';

const integer = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const decimal = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
export const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;

const NONE = '–';

export function count(n)
{
	return n === null || n === undefined ? NONE : integer.format(n);
}

// A rate of rows, per second.
export function rate(n)
{
	return n === null || n === undefined ? NONE : (n > 0 && n < 10 ? decimal : integer).format(n);
}

export function bytes(n)
{
	let unit = 0;

	if (n === null || n === undefined)
		return NONE;
	n = Number(n);
	while (Math.abs(n) >= 1024 && unit < 5)
	{
		n /= 1024;
		unit++;
	}
	return (unit === 0 || Math.abs(n) >= 100 ? integer : decimal).format(n) + ' ' + ['B', 'kB', 'MB', 'GB', 'TB', 'PB'][unit];
}

// What is done, in percent, as a number with two digits: 99.996 is not 100.
export function percent(n)
{
	return n === null || n === undefined ? NONE
		: (Math.floor(n * 100) / 100).toFixed(n === 0 || n === 100 ? 0 : 2).replace(/\.00$/, '.0') + ' %';
}

// An interval as PostgreSQL writes it, in seconds; null for null.
export function seconds(text)
{
	const unit = { year: 31557600, mon: 2592000, day: 86400 };
	let total = 0;

	if (text === null || text === undefined)
		return null;
	for (const [, n, what] of String(text).matchAll(/(-?\d+) (year|mon|day)/g))
		total += Number(n) * unit[what];
	const clock = /(-?)(\d+):(\d\d):(\d\d(?:\.\d+)?)/.exec(text);
	if (clock)
		total += (clock[1] ? -1 : 1) * (Number(clock[2]) * 3600 + Number(clock[3]) * 60 + Number(clock[4]));
	return total;
}

// A setting that is an interval, such as 250ms or 2 min, in milliseconds; null where it cannot be told.
export function milliseconds(text)
{
	const unit = { us: 0.001, ms: 1, s: 1000, sec: 1000, second: 1000, min: 60000, minute: 60000, h: 3600000, hour: 3600000, d: 86400000, day: 86400000 };
	const parts = /^([\d.]+) ?([a-z]+)$/.exec(String(text));
	const one = parts && (unit[parts[2]] || unit[parts[2].replace(/s$/, '')]);

	return Number(text) === 0 ? 0 : one ? Number(parts[1]) * one : null;
}

// A number of seconds, for people: two units at most.
export function span(s)
{
	if (s === null || s === undefined)
		return NONE;
	if (s < 0)
		return '0 s';
	if (s < 1)
		return Math.round(s * 1000) + ' ms';
	if (s < 10)
		return decimal.format(s) + ' s';
	s = Math.round(s);
	if (s < 60)
		return s + ' s';
	if (s < 3600)
		return Math.floor(s / 60) + ' min ' + String(s % 60).padStart(2, '0') + ' s';
	if (s < 86400)
		return Math.floor(s / 3600) + ' h ' + String(Math.floor(s % 3600 / 60)).padStart(2, '0') + ' min';
	return integer.format(Math.floor(s / 86400)) + ' d ' + Math.floor(s % 86400 / 3600) + ' h';
}

// Milliseconds between two times as the server writes them.
export function between(from, to)
{
	return from && to ? Date.parse(to) - Date.parse(from) : null;
}

function two(n)
{
	return String(n).padStart(2, '0');
}

// The text of a time in the viewer's zone: the day is left out where it is the day of `now`.
export function clock(at, now)
{
	const d = new Date(at);
	const today = new Date(now || Date.now());
	const time = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;

	if (Number.isNaN(d.getTime()))
		return String(at);
	return d.toDateString() === today.toDateString() ? time
		: `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${time}`;
}

// A time as an element; its zone is in the title.
export function time(at, now)
{
	if (at === null || at === undefined)
		return NONE;
	const d = new Date(at);
	const offset = -d.getTimezoneOffset();
	const zone = `UTC${offset < 0 ? '-' : '+'}${two(Math.floor(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`;

	return el('time', {
		datetime: at,
		title: `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${clock(at, at)} ${zone} (${ZONE})`,
	}, clock(at, now));
}

// Any JSON value in one line; null is said.
export function value(v)
{
	return v === null || v === undefined ? 'null' : typeof v === 'string' ? v : JSON.stringify(v);
}

// "1 batch", "2 batches".
export function plural(n, one, many)
{
	return `${count(n)} ${Number(n) === 1 ? one : many || one + 's'}`;
}
