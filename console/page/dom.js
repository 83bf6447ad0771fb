// The DOM: how elements are made, and how a new picture of a screen is laid over the one that is shown.
//
// Invariant: whatever comes from the server becomes a text node or the value of an attribute that is no
// program and no style.  Nothing here, and nothing in the page, is ever parsed as HTML.
//
// A screen is drawn anew from its data each second.  `morph` changes only what differs, so that the focus, the
// selection, an open <details> and the place of the scroll bar stay as they are.

// The handlers that an element may have.  They are properties, so that `morph` can hand them on.
const HANDLERS = ['onclick', 'onsubmit', 'oninput', 'onchange', 'onkeydown', 'onfocusout'];

// An element.  `props`: attributes by name (null, undefined and false: none; true: empty), and handlers by
// theirs.  `children`: nodes, texts, numbers, arrays of them; null, undefined and false are left out.
export function el(tag, props, ...children)
{
	const node = document.createElement(tag);

	for (const [name, value] of Object.entries(props || {}))
	{
		if (value === null || value === undefined || value === false)
			continue;
		if (HANDLERS.includes(name))
			node[name] = value;
		else
			node.setAttribute(name, value === true ? '' : String(value));
	}
	append(node, children);
	return node;
}

function append(node, children)
{
	for (const child of children)
	{
		if (child === null || child === undefined || child === false)
			continue;
		if (Array.isArray(child))
			append(node, child);
		else
			node.append(child instanceof Node ? child : String(child));
	}
}

// A group of nodes as one, for `morph`.
export function fragment(...children)
{
	const node = document.createDocumentFragment();

	append(node, children);
	return node;
}

function keyOf(node)
{
	return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute('data-key') : null;
}

function alike(old, fresh)
{
	return old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName && keyOf(old) === keyOf(fresh);
}

// Make the children of `old` be those of `fresh`, which is used up.
export function morph(old, fresh)
{
	const keyed = new Map();
	let place = old.firstChild;

	for (const child of old.childNodes)
		if (keyOf(child) !== null)
			keyed.set(keyOf(child), child);

	for (const wanted of [...fresh.childNodes])
	{
		const key = keyOf(wanted);
		let found = null;

		if (key !== null)
		{
			found = keyed.get(key);
			if (found && !alike(found, wanted))
				found = null;
		}
		else
		{
			// What has a key waits for the one who asks for it by that.
			for (let node = place; node && found === null; node = node.nextSibling)
				if (alike(node, wanted))
					found = node;
				else if (keyOf(node) === null)
					break;
		}

		if (found === null || found === undefined)
			old.insertBefore(wanted, place);
		else
		{
			if (found === place)
				place = place.nextSibling;
			else
				old.insertBefore(found, place);
			morphNode(found, wanted);
		}
	}
	while (place)
	{
		const next = place.nextSibling;

		place.remove();
		place = next;
	}
}

function morphNode(old, fresh)
{
	if (old.nodeType !== Node.ELEMENT_NODE)
	{
		if (old.data !== fresh.data)
			old.data = fresh.data;
		return;
	}
	// What keeps itself, such as a chart or a form that is being filled in, is left alone.
	if (fresh.hasAttribute('data-keep') && old.getAttribute('data-keep') === fresh.getAttribute('data-keep'))
	{
		if (fresh.hasAttribute('aria-label'))
			old.setAttribute('aria-label', fresh.getAttribute('aria-label'));
		return;
	}
	for (const { name } of [...old.attributes])
		if (!fresh.hasAttribute(name) && !(name === 'open' && old.nodeName === 'DETAILS'))
			old.removeAttribute(name);
	for (const { name, value } of [...fresh.attributes])
		if (old.getAttribute(name) !== value && !(name === 'open' && old.nodeName === 'DETAILS'))
			old.setAttribute(name, value);
	for (const name of HANDLERS)
		if (old[name] !== fresh[name])
			old[name] = fresh[name];
	morph(old, fresh);
}

// A table.  `columns`: { label, cell(row) -> node or text, num: right-aligned, wide: takes the rest, phone: false to
// be left out there, head: is the row's header }.  `key(row)` tells rows apart.  The roles are said, since on a phone the
// style makes boxes of the rows, and then some browsers forget that it is a table.
export function table({ caption, columns, rows, key, rowClass, empty })
{
	if (rows.length === 0)
		return el('p', { class: 'empty' }, empty || 'Nothing.');
	return el('div', { class: 'scroll', role: 'group', 'aria-label': caption, tabindex: '0' },
		el('table', { role: 'table', class: 'cards' },
			el('caption', { class: 'hidden' }, caption),
			el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' },
				columns.map(c => el('th', {
					scope: 'col', role: 'columnheader', class: c.num ? 'num' : null,
				}, c.label)))),
			el('tbody', { role: 'rowgroup' },
				rows.map(row => el('tr', { role: 'row', 'data-key': key(row), class: rowClass ? rowClass(row) : null },
					columns.map(c => tableCell(c, row)))))));
}

function tableCell(c, row)
{
	const cell = el(c.head ? 'th' : 'td', { role: c.head ? 'rowheader' : 'cell', scope: c.head ? 'row' : null, 'data-label': c.label }, c.cell(row));
	// A phone does without the name of what is not there.
	const nothing = cell.textContent === '' && !cell.querySelector('progress, meter');
	const classes = [c.num && 'num', c.wide && 'wide', c.phone === false && 'no-phone', nothing && 'void', c.class].filter(Boolean);

	if (classes.length > 0)
		cell.className = classes.join(' ');
	return cell;
}

// A list of facts: pairs of a name and what it is; those without are left out.
export function facts(pairs, props)
{
	return el('dl', { class: 'facts', ...props },
		pairs.filter(([, value]) => value !== null && value !== undefined && value !== '')
			.map(([name, value, more]) => el('div', more || null, el('dt', null, name), el('dd', null, value))));
}
