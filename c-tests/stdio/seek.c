/* stdio: fseek, ftell, rewind, ungetc, fgets, getline, fgetpos, mixing reads and writes, buffers of all kinds. */
#include "ct.h"

static void test(void)
{
    char line[64], *grown = NULL;
    size_t size = 0;
    FILE *f = OK(fopen("f", "w+"));
    for (int i = 0; i < 2000; i++) fprintf(f, "line %d\n", i);
    T(ftell(f));
    T(fseek(f, 0, SEEK_SET));
    printf("%s", fgets(line, sizeof line, f));
    T(ungetc('Q', f));
    printf("%c", fgetc(f));
    printf("%s", fgets(line, sizeof line, f));
    T(fseek(f, -5, SEEK_END));
    printf("%s", fgets(line, sizeof line, f));
    T(fgetc(f));
    T(feof(f) != 0);
    rewind(f);
    fpos_t place;
    int n = 0;
    while (getline(&grown, &size, f) > 0 && ++n < 1000) {}
    OK(fgetpos(f, &place));
    printf("%d %s", n, grown);
    fgets(line, sizeof line, f);
    OK(fsetpos(f, &place));
    printf("%s", fgets(line, sizeof line, f));
    T(fseek(f, 5000, SEEK_SET));
    T(fputs("OVERWRITTEN", f));
    T(fflush(f));
    T(ftell(f));
    T(fseek(f, 4995, SEEK_SET));
    T(fread(line, 1, 20, f));
    ct_bytes("around", line, 20);
    T(fseek(f, -1, SEEK_SET));
    T(fseek(f, 100000, SEEK_SET));
    T(fputc('!', f));
    T(fclose(f));
    ct_sum("f");
    f = OK(fopen("g", "w"));
    static char big[70000];
    T(setvbuf(f, big, _IOFBF, sizeof big));
    for (int i = 0; i < 3000; i++) fwrite("0123456789", 10, 1, f);
    ct_stat("g");
    T(fclose(f));
    ct_stat("g");
    f = OK(fopen("g", "a"));
    T(setvbuf(f, NULL, _IONBF, 0));
    fputs("unbuffered", f);
    ct_stat("g");
    fclose(f);
    f = OK(fopen("g", "r"));
    T(fseeko(f, 29990, SEEK_SET));
    T(fread(line, 10, 3, f));
    ct_bytes("tail", line, 20);
    int w;
    char word[32];
    rewind(f);
    T(fscanf(f, "%4d%31s", &w, word) > 0);
    printf("%d\n", w);
    fclose(f);
    free(grown);
}
