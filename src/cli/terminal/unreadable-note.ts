/** `3 lines of the files could not be read and are left out.` */
export function unreadableNote(lines: number): string {
  return `${lines === 1 ? '1 line' : `${lines} lines`} of the files could not be read and ${lines === 1 ? 'is' : 'are'} left out.`
}
